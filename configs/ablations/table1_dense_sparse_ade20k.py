# Table 1: UperNet, 80k iterations, from what table1_dense_sparse_imagenet.py trains.
_base_ = './table1_dense_ade20k.py'
channels = [124, 249, 499, 998]
model = dict(
    backbone=dict(width_factor=1.3),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
)
custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed')]
