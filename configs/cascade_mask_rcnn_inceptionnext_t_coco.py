# Cascade Mask R-CNN with InceptionNeXt-T on COCO, 3x schedule, multi-scale crops: ConvNeXt-T's recipe, for the
# authors publish none. So the norms of the outputs are this project's choice too.
# Give it what inceptionnext_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/cascade_mask_rcnn_pretrained.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/runtime_detection.py',
]
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
