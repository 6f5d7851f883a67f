# UperNet with PeLK-B on ADE20K. Give it what pelk_b_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = './upernet_pelk_t_ade20k.py'
channels = [166, 332, 665, 1331]
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.4),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
)
