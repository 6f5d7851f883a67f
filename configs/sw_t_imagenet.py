# SW-T (ShiftWiseNet, the authors' second version) on ImageNet-1K at 224 px, 300 epochs: the authors' recipe with their
# coarse sparsity, which drops whole filters of the rep paths. They train in fp32 and average no weights.
# SNIP ranks by the loss of the first step, mixup and all; the authors' by plain cross-entropy (decisions D5 and D6).
_base_ = [
    './_base_/models/classifier.py',
    './_base_/datasets/imagenet.py',
    './_base_/schedules/imagenet_300e.py',
    './_base_/runtime_classification.py',
]
model = dict(
    backbone=dict(type='pelk_mm.ShiftWiseNet', arch='tiny', drop_path_rate=0.2, branch_norm_cfg=dict(type='SyncBN')),
    head=dict(in_channels=640),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
# Batch 4096 = 64 images x 8 GPUs x 8 accumulated steps.
accumulative_counts = 8
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(
    accumulative_counts=accumulative_counts,
    # The authors' GRN parameters have four dimensions, so their weight decay reaches them; ours have one.
    paramwise_cfg=dict(custom_keys=dict(grn=dict(decay_mult=1.0))),
)
auto_scale_lr = dict(base_batch_size=4096 // accumulative_counts)
warmup, cosine = _base_.param_scheduler
param_scheduler = [dict(warmup, end=5), dict(cosine, begin=5)]
custom_hooks = [
    dict(
        type='pelk_mm.DynamicSparsityHook',
        granularity='filter',
        sparsity=0.3,
        prune_rate=0.3,
        update_interval=100,
        sync_interval=131,
    ),
]
