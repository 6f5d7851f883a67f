# Cascade Mask R-CNN with WBMM-T on COCO, 3x schedule, multi-scale crops: the authors' recipe, but in mixed precision,
# which their config does not set.
# Give it what wbmm_t_dense_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/cascade_mask_rcnn_pretrained.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/runtime_detection.py',
]
model = dict(
    backbone=dict(
        type='pelk_mm.WBMMNet',
        arch='tiny',
        windows_in_first_stage=True,
        drop_path_rate=0.3,
        branch_norm_cfg=dict(type='SyncBN'),
    ),
    neck=dict(in_channels=[80, 160, 320, 640]),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(
        decay_rate=0.8,
        # The authors' GRN parameters have four dimensions, so their weight decay reaches them; ours have one.
        custom_keys=dict(grn=dict(decay_mult=1.0)),
    ),
)
