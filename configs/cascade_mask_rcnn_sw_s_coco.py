# Cascade Mask R-CNN with SW-S on COCO. Give it what sw_s_imagenet.py trains as PELK_MM_PRETRAINED. The authors
# published no recipe for it: this is SW-T's with the drop path of UniRepLKNet-S, whose skeleton it shares.
_base_ = './cascade_mask_rcnn_sw_t_coco.py'
model = dict(backbone=dict(arch='small', drop_path_rate=0.5), neck=dict(in_channels=[96, 192, 384, 768]))
