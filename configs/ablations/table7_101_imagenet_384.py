# Table 7: kernels 101-69-67-13 at 384 px, from what table7_101_imagenet.py trains.
_base_ = './table7_51_imagenet_384.py'
model = dict(backbone=dict(kernel_sizes=(101, 69, 67, 13), central_size=7))
