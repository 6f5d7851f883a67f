# UperNet with PeLK-T on ADE20K, 512x512, 160k iterations: the paper's recipe.
# Give it what pelk_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/upernet_pelk.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/schedule_160k.py',
    './_base_/runtime_segmentation.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(arch='tiny', drop_path_rate=0.4),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed')]
