# UperNet with SW-S on ADE20K. Give it what sw_s_imagenet.py trains as PELK_MM_PRETRAINED. The authors published no
# recipe for it: this is SW-T's, drop path included.
_base_ = './upernet_sw_t_ade20k.py'
channels = [96, 192, 384, 768]
model = dict(
    backbone=dict(arch='small'),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
)
