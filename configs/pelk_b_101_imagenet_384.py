# PeLK-B-101 on ImageNet-1K at 384 px, 30 epochs from the net that pelk_b_101_imagenet.py trains at 224 px.
_base_ = './pelk_b_imagenet_384.py'
model = dict(backbone=dict(kernel_sizes=(101, 69, 67, 13), central_size=7))
