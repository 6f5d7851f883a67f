# Table 6: central size 3. The outer segments take what the centre leaves of each kernel.
_base_ = './pelk_t_imagenet.py'
model = dict(backbone=dict(central_size=3))
