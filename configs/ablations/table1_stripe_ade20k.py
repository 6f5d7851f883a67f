# Table 1: UperNet, 80k iterations, from what table1_stripe_imagenet.py trains.
_base_ = '../upernet_pelk_t_ade20k.py'
channels = [96, 192, 384, 768]
model = dict(
    backbone=dict(mixer='stripe', conv_ratio=1.0, pos_embed=None, width_factor=1.0),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
)
max_iters = 80000
warmup, poly = _base_.param_scheduler
param_scheduler = [warmup, dict(poly, end=max_iters)]
train_cfg = dict(max_iters=max_iters)
custom_hooks = []
