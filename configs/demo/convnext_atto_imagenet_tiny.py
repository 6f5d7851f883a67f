# The control for kernel size: mmpretrain's ConvNeXt (7x7) in PeLK-atto's width and depth.
_base_ = './pelk_atto_imagenet_tiny.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvNeXt',
        arch=dict(depths=[2, 2, 6, 2], channels=[52, 104, 208, 416]),
        drop_path_rate=0.1,
        layer_scale_init_value=1.0,
    )
)
