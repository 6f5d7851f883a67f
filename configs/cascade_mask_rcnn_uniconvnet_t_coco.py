# Cascade Mask R-CNN with UniConvNet-T on COCO, 3x schedule, multi-scale crops: ConvNeXt-T's recipe, for the authors
# publish none. Its third stage being deeper, the layer decay has twelve layers, like ConvNeXt-S's.
# Give it what uniconvnet_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/cascade_mask_rcnn_pretrained.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/runtime_detection.py',
]
model = dict(
    backbone=dict(type='pelk_mm.UniConvNet', arch='tiny', drop_path_rate=0.4),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
