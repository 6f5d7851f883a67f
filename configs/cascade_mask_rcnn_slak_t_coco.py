# Cascade Mask R-CNN with SLaK-T on COCO, 3x schedule, multi-scale crops: the authors' recipe, but in mixed precision,
# which their config does not set. They start from the weights themselves, not from their average; a checkpoint of
# slak_t_imagenet.py has those under ema_state_dict.
# Give it what slak_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/cascade_mask_rcnn_pretrained.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/runtime_detection.py',
]
model = dict(
    backbone=dict(type='pelk_mm.SLaK', arch='tiny', drop_path_rate=0.4, branch_norm_cfg=dict(type='SyncBN')),
    neck=dict(in_channels=[124, 249, 499, 998]),
)
custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed')]
