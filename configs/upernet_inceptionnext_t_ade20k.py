# UperNet with InceptionNeXt-T on ADE20K, 512x512, 160k iterations: ConvNeXt-T's recipe, not checked against
# the authors'. So the norms of the outputs are this project's choice too.
# Give it what inceptionnext_t_imagenet.py trains as PELK_MM_PRETRAINED.
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
    backbone=dict(
        type='pelk_mm.InceptionNeXt',
        arch='tiny',
        drop_path_rate=0.4,
        norm_cfg=dict(type='SyncBN'),
        output_norm_cfg=dict(type='LN2d', eps=1e-6),
    ),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
