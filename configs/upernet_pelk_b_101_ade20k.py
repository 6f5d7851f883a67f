# UperNet with PeLK-B-101 on ADE20K. Give it what pelk_b_101_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = './upernet_pelk_b_ade20k.py'
model = dict(backbone=dict(kernel_sizes=(101, 69, 67, 13), central_size=7))
