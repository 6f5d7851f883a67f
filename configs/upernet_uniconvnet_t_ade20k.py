# UperNet with UniConvNet-T on ADE20K, 512x512, 160k iterations: ConvNeXt-T's recipe, for the authors publish none.
# Its third stage being deeper, the layer decay has twelve layers, like ConvNeXt-S's.
# Give it what uniconvnet_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/upernet_pretrained.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/schedule_160k.py',
    './_base_/runtime_segmentation.py',
]
crop_size = (512, 512)
channels = [64, 128, 256, 512]
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(type='pelk_mm.UniConvNet', arch='tiny', drop_path_rate=0.4),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
