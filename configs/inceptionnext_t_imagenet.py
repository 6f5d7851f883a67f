# InceptionNeXt-T on ImageNet-1K at 224 px, 300 epochs, without an average of the weights. Batch, learning rate, warm-up
# and drop path are the authors'; the rest is ConvNeXt's recipe, which theirs was not compared with.
_base_ = [
    './_base_/models/classifier.py',
    './_base_/datasets/imagenet.py',
    './_base_/schedules/imagenet_300e.py',
    './_base_/runtime_classification.py',
]
# Average, Linear 3 C, GELU, LayerNorm, Linear: the authors' classifier has two layers.
model = dict(
    backbone=dict(type='pelk_mm.InceptionNeXt', arch='tiny', drop_path_rate=0.1),
    neck=dict(type='pelk_mm.MlpNeck', in_channels=768),
    head=dict(in_channels=2304),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
