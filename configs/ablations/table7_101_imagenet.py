# Table 7: kernels 101-69-67-13 at 224 px.
_base_ = './pelk_t_imagenet.py'
model = dict(backbone=dict(kernel_sizes=(101, 69, 67, 13), central_size=7))
