# Mask R-CNN whose backbone starts from an ImageNet classifier of this package, with mmdet's heads: a single box head of
# two linear layers, L1 loss on offsets. The rest is the cascade's, with a layer scale of 1 in the backbone.
_base_ = './cascade_mask_rcnn_pretrained.py'
l1_loss = dict(type='L1Loss', loss_weight=1.0)
first_head = _base_.model.roi_head.bbox_head[0]
first_stage = _base_.model.train_cfg.rcnn[0]
model = dict(
    type='MaskRCNN',
    rpn_head=dict(loss_bbox=dict(_delete_=True, **l1_loss)),
    roi_head=dict(
        _delete_=True,
        type='StandardRoIHead',
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=80,
            bbox_coder=first_head.bbox_coder,
            reg_class_agnostic=False,
            loss_cls=first_head.loss_cls,
            loss_bbox=l1_loss,
        ),
        **{key: _base_.model.roi_head[key] for key in ('bbox_roi_extractor', 'mask_roi_extractor', 'mask_head')},
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=-1),
        rpn_proposal=dict(max_per_img=1000),
        rcnn=dict(first_stage, _delete_=True, assigner=dict(first_stage.assigner, match_low_quality=True)),
    ),
)
