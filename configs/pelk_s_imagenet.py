# PeLK-S on ImageNet-1K at 224 px, 300 epochs.
_base_ = './pelk_t_imagenet.py'
model = dict(backbone=dict(arch='small', drop_path_rate=0.4))
custom_hooks = [
    _base_.ema,
    dict(type='pelk_mm.DynamicSparsityHook', sparsity=0.4, update_interval=100, prune_rate=0.3),
]
