# PeLK-B on ImageNet-1K at 224 px, 300 epochs.
_base_ = './pelk_s_imagenet.py'
model = dict(backbone=dict(arch='base', drop_path_rate=0.5), head=dict(in_channels=1331))
