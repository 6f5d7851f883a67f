# WTConvNeXt-T on ImageNet-1K at 224 px, 300 epochs: the authors' recipe, which is ConvNeXt's. They have one process on
# each of four GPUs, and 16 accumulated steps of 64 images. The scales of the wavelet convolutions do not decay, in
# theirs by name, in ours because they have one dimension.
_base_ = [
    './_base_/models/classifier.py',
    './_base_/datasets/imagenet.py',
    './_base_/schedules/imagenet_300e.py',
    './_base_/runtime_classification.py',
]
model = dict(
    backbone=dict(type='pelk_mm.WTConvNeXt', arch='tiny', drop_path_rate=0.1),
    head=dict(in_channels=768),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
custom_hooks = [_base_.ema]
