# An ImageNet classifier with a PeLK backbone. The leaf gives arch, drop path and the head's in_channels.
_base_ = './classifier.py'
model = dict(
    backbone=dict(type='pelk_mm.PeLK', arch='tiny', drop_path_rate=0.1),
    head=dict(in_channels=998),
)
