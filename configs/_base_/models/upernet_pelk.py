# UperNet with a PeLK backbone. The leaf gives arch, channels and num_classes.
_base_ = './upernet_pretrained.py'
model = dict(
    backbone=dict(
        type='pelk_mm.PeLK',
        arch='tiny',
        drop_path_rate=0.4,
        # Two images per GPU are too few for the statistics of a plain BatchNorm.
        branch_norm_cfg=dict(type='SyncBN'),
    ),
    decode_head=dict(in_channels=[124, 249, 499, 998]),
    auxiliary_head=dict(in_channels=499),
)
