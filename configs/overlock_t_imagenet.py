# OverLoCK-T on ImageNet-1K at 224 px, 300 epochs: the authors' recipe, with two accumulated steps of 128 images on each
# of eight GPUs where theirs has one of 256. In mixed precision like theirs; under it they meet losses that are NaN,
# while here the logits of the kernels and the response norms are computed in float32.
_base_ = [
    './_base_/models/classifier.py',
    './_base_/datasets/imagenet.py',
    './_base_/schedules/imagenet_300e.py',
    './_base_/runtime_classification.py',
]
# The features, 512 channels and 128 of the context, and for the auxiliary loss the overview behind them.
model = dict(
    backbone=dict(
        type='pelk_mm.OverLoCK',
        arch='tiny',
        drop_path_rate=0.15,
        gap_before_final_norm=False,
        overview_output=True,
    ),
    head=dict(type='pelk_mm.OverLoCKHead', in_channels=640, overview_channels=512),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
# 224 of 235: the authors test on 95 % of the shorter side.
test_pipeline = [dict(step, scale=235) if 'scale' in step else step for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
# Batch 2048 = 128 images x 8 GPUs x 2 accumulated steps.
accumulative_counts = 2
# What in theirs has more than one dimension and therefore decays, and has one in ours: scales of residuals and of the
# context, and the response norms. The biases of relative position have three in both.
decayed = (
    'residual.weight',
    'residual1.weight',
    'residual2.weight',
    'context_scale.weight',
    'overview_scale.weight',
    'grn',
)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(lr=2e-3),
    paramwise_cfg=dict(custom_keys={name: dict(decay_mult=1.0) for name in decayed}),
    accumulative_counts=accumulative_counts,
    clip_grad=dict(max_norm=5.0),
    loss_scale='dynamic',
)
auto_scale_lr = dict(base_batch_size=2048 // accumulative_counts)
# From 1e-6 and to 1e-5.
warmup, cosine = _base_.param_scheduler
param_scheduler = [dict(warmup, start_factor=5e-4, end=5), dict(cosine, begin=5, eta_min=1e-5)]
custom_hooks = [dict(_base_.ema, interval=accumulative_counts)]
