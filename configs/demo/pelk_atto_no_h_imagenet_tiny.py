# PeLK-atto without its positional embedding h.
_base_ = './pelk_atto_imagenet_tiny.py'
model = dict(backbone=dict(pos_embed=None))
