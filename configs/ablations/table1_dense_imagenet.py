# Table 1: dense 51 x 51 kernels in SLaK-T's framework, without sparsity.
_base_ = './table1_stripe_imagenet.py'
model = dict(backbone=dict(mixer='dense'))
