# Cascade Mask R-CNN with PeLK-T on COCO, 3x schedule, multi-scale crops: the paper's recipe.
# Give it what pelk_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/cascade_mask_rcnn_pelk.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/runtime_detection.py',
]
model = dict(backbone=dict(arch='tiny', drop_path_rate=0.4))
custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed')]
