# The paper's ImageNet schedule, SLaK's and ConvNeXt's too: 300 epochs of AdamW, 20 of them warm-up, cosine to 1e-6, and
# an average of the weights, which is what gets tested and saved.
# A leaf that changes max_epochs changes the two places below that count on it.
# Batch 4096 = 128 images x 8 GPUs x 4 accumulated steps. With other numbers of GPUs change `accumulative_counts` here,
# and the average's `interval` with it: one entry of the average for each step of the optimizer.
accumulative_counts = 4
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, betas=(0.9, 0.999), weight_decay=0.05),
    # No layer decay (rate 1): the constructor is here for its rules of what gets no weight decay.
    constructor='pelk_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=1.0, decay_type='layer_wise'),
    accumulative_counts=accumulative_counts,
)
# The toolbox multiplies GPUs and images per GPU, and leaves accumulation out.
auto_scale_lr = dict(enable=False, base_batch_size=4096 // accumulative_counts)
max_epochs = 300
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
ema = dict(
    type='EMAHook',
    # What a new value counts: a decay of 0.9999.
    momentum=1e-4,
    interval=accumulative_counts,
    # BatchNorm's statistics belong to the weights they were measured with.
    update_buffers=True,
    priority='ABOVE_NORMAL',
)
