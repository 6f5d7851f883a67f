# Cascade Mask R-CNN with a PeLK backbone. The leaf gives arch, drop path and the neck's in_channels.
_base_ = './cascade_mask_rcnn_pretrained.py'
model = dict(
    backbone=dict(
        type='pelk_mm.PeLK',
        arch='tiny',
        drop_path_rate=0.4,
        # Two images per GPU are too few for the statistics of a plain BatchNorm.
        branch_norm_cfg=dict(type='SyncBN'),
    ),
    neck=dict(in_channels=[124, 249, 499, 998]),
)
