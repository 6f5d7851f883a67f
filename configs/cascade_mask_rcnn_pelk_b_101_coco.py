# Cascade Mask R-CNN with PeLK-B-101 on COCO. Give it what pelk_b_101_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = './cascade_mask_rcnn_pelk_b_coco.py'
model = dict(backbone=dict(kernel_sizes=(101, 69, 67, 13), central_size=7))
