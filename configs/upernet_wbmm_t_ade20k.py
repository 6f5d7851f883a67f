# UperNet with WBMM-T on ADE20K, 512x512, 160k iterations: the authors' recipe, tested on whole images, but in mixed
# precision, which their config does not set, and without its resize of test images to multiples of 32.
# Give it what wbmm_t_dense_imagenet.py trains as PELK_MM_PRETRAINED.
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
    backbone=dict(
        type='pelk_mm.WBMMNet',
        arch='tiny',
        windows_in_first_stage=True,
        drop_path_rate=0.2,
        branch_norm_cfg=dict(type='SyncBN'),
    ),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        # No layer decay.
        decay_rate=1.0,
        # The authors' GRN parameters have four dimensions, so their weight decay reaches them; ours have one.
        custom_keys=dict(grn=dict(decay_mult=1.0)),
    )
)
