# The net all ablations of the paper start from: PeLK-T without sparsity, so at ConvNeXt's own width (decision D3),
# 120 epochs. Kernels 51-49-47-13, central size 5, with h.
_base_ = '../pelk_t_imagenet.py'
model = dict(backbone=dict(width_factor=1.0), head=dict(in_channels=768))
max_epochs = 120
warmup, cosine = _base_.param_scheduler
param_scheduler = [warmup, dict(cosine, end=max_epochs)]
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [_base_.ema]
