# Table 1: UperNet, 80k iterations, from what table1_dense_imagenet.py trains.
_base_ = './table1_stripe_ade20k.py'
model = dict(backbone=dict(mixer='dense'))
