# Cascade Mask R-CNN with PeLK-S on COCO. Give it what pelk_s_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = './cascade_mask_rcnn_pelk_t_coco.py'
model = dict(backbone=dict(arch='small', drop_path_rate=0.6))
