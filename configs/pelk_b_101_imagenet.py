# PeLK-B-101 on ImageNet-1K at 224 px, 300 epochs. The paper has no row for it: its other nets of this size start here.
_base_ = './pelk_b_imagenet.py'
model = dict(backbone=dict(kernel_sizes=(101, 69, 67, 13), central_size=7))
