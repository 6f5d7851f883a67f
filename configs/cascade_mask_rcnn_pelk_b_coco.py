# Cascade Mask R-CNN with PeLK-B on COCO. Give it what pelk_b_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = './cascade_mask_rcnn_pelk_t_coco.py'
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.7),
    neck=dict(in_channels=[166, 332, 665, 1331]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8))
