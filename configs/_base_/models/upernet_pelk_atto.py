# A UperNet small enough for a CPU, trained from scratch: PeLK-atto with the kernels of the full-size nets.
_base_ = './upernet.py'
# SyncBN has nothing to synchronise with one process and 8 images in it.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        type='pelk_mm.PeLK',
        arch='atto',
        # The regularisation of a large net only slows a small one down.
        drop_path_rate=0.0,
        # A branch scaled by 1e-6 needs tens of epochs to wake up, and there are no pretrained weights.
        layer_scale_init_value=1.0,
        branch_norm_cfg=dict(type='BN'),
    ),
    decode_head=dict(in_channels=[52, 104, 208, 416], channels=64, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=208, channels=64, norm_cfg=norm_cfg),
)
