# UperNet with SW-T on ADE20K, 512x512, 160k iterations: the authors' recipe for single-scale tests, but in mixed
# precision where theirs is fp32, and with two images on each of eight GPUs where theirs has four on each of four.
# Give it what sw_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/upernet_pretrained.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/schedule_160k.py',
    './_base_/runtime_segmentation.py',
]
crop_size = (512, 512)
channels = [80, 160, 320, 640]
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(type='pelk_mm.ShiftWiseNet', arch='tiny', drop_path_rate=0.4, branch_norm_cfg=dict(type='SyncBN')),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        # No layer decay.
        decay_rate=1.0,
        # The authors' GRN parameters have four dimensions, so their weight decay reaches them; ours have one.
        custom_keys=dict(grn=dict(decay_mult=1.0)),
    )
)
custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed', granularity='filter')]
