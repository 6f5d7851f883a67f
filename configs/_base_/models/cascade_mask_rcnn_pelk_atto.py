# A Cascade Mask R-CNN small enough for a CPU, trained from scratch: PeLK-atto with the kernels of the full-size nets,
# heads a fifth as wide and a quarter as deep, and a few regions per image. For images of about 320 pixels.
_base_ = './cascade_mask_rcnn.py'
# SyncBN has nothing to synchronise with one process.
norm_cfg = dict(type='BN', requires_grad=True)
width = 48
narrow = dict(in_channels=width, conv_out_channels=width)
# Two samples a side and cell, where large regions would take up to sixteen.
roi_extractor = dict(out_channels=width, roi_layer=dict(sampling_ratio=2))
few_regions = dict(num=64, pos_fraction=0.5)
few_proposals = dict(nms_pre=500, max_per_img=200)
model = dict(
    backbone=dict(
        type='pelk_mm.PeLK',
        arch='atto',
        # The regularisation of a large net only slows a small one down.
        drop_path_rate=0.0,
        branch_norm_cfg=dict(type='BN'),
    ),
    neck=dict(in_channels=[52, 104, 208, 416], out_channels=width),
    # Images this small have objects of eight pixels: anchors from there on, two sizes a level.
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[2, 4])),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=[
            dict(head, **narrow, num_shared_convs=1, fc_out_channels=256, norm_cfg=norm_cfg)
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_roi_extractor=roi_extractor,
        mask_head=dict(**narrow, num_convs=1),
    ),
    train_cfg=dict(
        rpn_proposal=few_proposals,
        rcnn=[dict(stage, sampler=dict(stage.sampler, **few_regions)) for stage in _base_.model.train_cfg.rcnn],
    ),
    test_cfg=dict(rpn=few_proposals),
)
