# UperNet with WTConvNeXt-T on ADE20K, 512x512, 160k iterations: the authors' recipe.
# Give it what wtconvnext_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/upernet_pretrained.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/schedule_160k.py',
    './_base_/runtime_segmentation.py',
]
crop_size = (512, 512)
channels = [96, 192, 384, 768]
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(type='pelk_mm.WTConvNeXt', arch='tiny', drop_path_rate=0.4),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
# The scales of the authors' wavelet convolutions have four dimensions, so here, unlike in their training on ImageNet,
# their weight decay reaches them; ours have one.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(scale=dict(decay_mult=1.0))))
