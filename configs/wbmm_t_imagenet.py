# WBMM-T on ImageNet-1K at 224 px, 300 epochs: the authors' recipe, which is UniRepLKNet's, without an average of the
# weights. Fine-tuning starts from wbmm_t_dense_imagenet.py instead.
_base_ = [
    './_base_/models/classifier.py',
    './_base_/datasets/imagenet.py',
    './_base_/schedules/imagenet_300e.py',
    './_base_/runtime_classification.py',
]
model = dict(
    backbone=dict(type='pelk_mm.WBMMNet', arch='tiny', drop_path_rate=0.2),
    head=dict(in_channels=640),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
# The authors' GRN parameters have four dimensions, so their weight decay reaches them; ours have one.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(grn=dict(decay_mult=1.0))))
