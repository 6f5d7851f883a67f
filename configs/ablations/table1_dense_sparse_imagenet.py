# Table 1: dense 51 x 51 kernels in SLaK-T's framework, 1.3 times wider with 40 % of the weights pruned.
_base_ = './table1_dense_imagenet.py'
model = dict(backbone=dict(width_factor=1.3), head=dict(in_channels=998))
custom_hooks = [
    _base_.ema,
    dict(type='pelk_mm.DynamicSparsityHook', sparsity=0.4, update_interval=2000, prune_rate=0.5),
]
