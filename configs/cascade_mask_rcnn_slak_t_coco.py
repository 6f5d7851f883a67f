# Cascade Mask R-CNN with SLaK-T on COCO, 3x schedule, multi-scale crops: the authors' recipe, but in mixed precision,
# which their config does not set. They start from the weights themselves, not from their average; a checkpoint of
# slak_t_imagenet.py has those under ema_state_dict.
_base_ = [
    './_base_/models/cascade_mask_rcnn.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/runtime_detection.py',
]
# File or URL of the classifier that slak_t_imagenet.py trains; its zeros stay zero. 'none' trains from scratch,
# far below the published figures.
pretrained = '{{$PELK_MM_PRETRAINED:none}}'
model = dict(
    backbone=dict(type='pelk_mm.SLaK', arch='tiny', drop_path_rate=0.4, branch_norm_cfg=dict(type='SyncBN')),
    neck=dict(in_channels=[124, 249, 499, 998]),
)
if pretrained != 'none':
    model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')
custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed')]
