# The control for parameter sharing: every tap of the large kernels has a weight of its own. No h either.
_base_ = './pelk_atto_no_h_imagenet_tiny.py'
model = dict(backbone=dict(mixer='dense'))
