# UperNet with SLaK-T on ADE20K, 512x512, 160k iterations: the authors' recipe, but in mixed precision, which their
# config does not set, and with two images on each of eight GPUs where theirs has four on each of four.
# Give it what slak_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/upernet_pretrained.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/schedule_160k.py',
    './_base_/runtime_segmentation.py',
]
crop_size = (512, 512)
channels = [124, 249, 499, 998]
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(type='pelk_mm.SLaK', arch='tiny', drop_path_rate=0.4, branch_norm_cfg=dict(type='SyncBN')),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed')]
