# SLaK-T on ImageNet-1K at 224 px, 300 epochs: the authors' recipe with their dynamic sparsity.
_base_ = [
    './_base_/models/classifier.py',
    './_base_/datasets/imagenet.py',
    './_base_/schedules/imagenet_300e.py',
    './_base_/runtime_classification.py',
]
model = dict(
    # The authors synchronise BatchNorm.
    backbone=dict(type='pelk_mm.SLaK', arch='tiny', drop_path_rate=0.1, branch_norm_cfg=dict(type='SyncBN')),
    head=dict(in_channels=998),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
custom_hooks = [
    _base_.ema,
    dict(type='pelk_mm.DynamicSparsityHook', sparsity=0.4, update_interval=2000, prune_rate=0.5),
]
