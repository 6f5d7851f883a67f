# Cascade Mask R-CNN with InceptionNeXt-T on COCO, 3x schedule, multi-scale crops: ConvNeXt-T's recipe, for the
# authors publish none. So the norms of the outputs are this project's choice too.
_base_ = [
    './_base_/models/cascade_mask_rcnn.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/runtime_detection.py',
]
# File or URL of the classifier that inceptionnext_t_imagenet.py trains. 'none' trains from scratch,
# far below the published figures.
pretrained = '{{$PELK_MM_PRETRAINED:none}}'
model = dict(
    backbone=dict(
        type='pelk_mm.InceptionNeXt',
        arch='tiny',
        drop_path_rate=0.4,
        norm_cfg=dict(type='SyncBN'),
        output_norm_cfg=dict(type='LN2d', eps=1e-6),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
if pretrained != 'none':
    model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')
