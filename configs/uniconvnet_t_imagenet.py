# UniConvNet-T on ImageNet-1K at 224 px, 300 epochs: the authors' recipe.
_base_ = [
    './_base_/models/classifier.py',
    './_base_/datasets/imagenet.py',
    './_base_/schedules/imagenet_300e.py',
    './_base_/runtime_classification.py',
]
model = dict(
    backbone=dict(type='pelk_mm.UniConvNet', arch='tiny', drop_path_rate=0.2),
    head=dict(in_channels=512),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
custom_hooks = [_base_.ema]
