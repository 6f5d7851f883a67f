# Table 1: SLaK-T's pairs of stripes (51 x 5 and 5 x 51 in the first stage) on all channels, without sparsity.
_base_ = './pelk_t_imagenet.py'
model = dict(backbone=dict(mixer='stripe', conv_ratio=1.0, pos_embed=None))
