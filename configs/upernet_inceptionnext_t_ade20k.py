# UperNet with InceptionNeXt-T on ADE20K, 512x512, 160k iterations: ConvNeXt-T's recipe, not checked against
# the authors'. So the norms of the outputs are this project's choice too.
_base_ = [
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/schedule_160k.py',
    './_base_/default_runtime.py',
]
# File or URL of the classifier that inceptionnext_t_imagenet.py trains. 'none' trains from scratch,
# far below the published figures.
pretrained = '{{$PELK_MM_PRETRAINED:none}}'
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
if pretrained != 'none':
    model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')
