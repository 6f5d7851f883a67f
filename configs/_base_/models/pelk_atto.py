# A classifier small enough for a CPU, trained from scratch: PeLK-atto with the kernels of the full-size nets.
_base_ = './pelk.py'
data_preprocessor = dict(num_classes=20)
model = dict(
    backbone=dict(
        arch='atto',
        drop_path_rate=0.1,
        # A branch scaled by 1e-6 needs tens of epochs to wake up.
        layer_scale_init_value=1.0,
    ),
    head=dict(num_classes=20, in_channels=416),
)
