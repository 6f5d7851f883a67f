# SW-S on ImageNet-1K at 224 px, 300 epochs. The authors published no recipe for it: this is SW-T's with the drop path
# of UniRepLKNet-S, whose skeleton it shares.
_base_ = './sw_t_imagenet.py'
model = dict(backbone=dict(arch='small', drop_path_rate=0.4), head=dict(in_channels=768))
