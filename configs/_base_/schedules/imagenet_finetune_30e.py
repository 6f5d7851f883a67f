# ConvNeXt's fine-tune at another image size: 30 epochs without warm-up, layer-wise decay, next to no weight decay.
# Batch 512 = 32 images x 8 GPUs x 2 accumulated steps.
accumulative_counts = 2
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, betas=(0.9, 0.999), weight_decay=1e-8),
    constructor='pelk_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.7, decay_type='layer_wise'),
    accumulative_counts=accumulative_counts,
)
# The toolbox multiplies GPUs and images per GPU, and leaves accumulation out.
auto_scale_lr = dict(enable=False, base_batch_size=512 // accumulative_counts)
# To 1e-6 at the head. As a ratio, since the first layers start below 1e-6: 0.7 ** 13 of the head's rate in S and B.
max_epochs = 30
param_scheduler = [
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
