# Cascade Mask R-CNN with PeLK-T on COCO, 3x schedule, multi-scale crops: the paper's recipe.
_base_ = [
    './_base_/models/cascade_mask_rcnn_pelk.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/runtime_detection.py',
]
# File or URL of the classifier that pelk_t_imagenet.py trains; its zeros stay zero. 'none' trains from scratch,
# far below the AP of the paper.
pretrained = '{{$PELK_MM_PRETRAINED:none}}'
model = dict(backbone=dict(arch='tiny', drop_path_rate=0.4))
if pretrained != 'none':
    model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')
custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed')]
