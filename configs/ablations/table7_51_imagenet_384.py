# Table 7: kernels 51-49-47-13 at 384 px. The paper does not say how it trains at this size: ours is the fine-tune of
# pelk_b_imagenet_384.py, from what pelk_t_imagenet.py of this folder trains, with that net's own drop path.
_base_ = '../pelk_b_imagenet_384.py'
model = dict(
    backbone=dict(arch='tiny', width_factor=1.0, drop_path_rate=0.1),
    head=dict(in_channels=768),
)
custom_hooks = []
