# The published ADE20K pipeline (512x512 crops, sliding test) with PeLK-atto, as an overfit check on a few images.
# Train, val and test are all the training images on purpose: the score says whether the net can learn them by heart,
# nothing about ADE20K.
_base_ = [
    '../_base_/models/upernet_pelk_atto.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_scratch.py',
    '../_base_/runtime_segmentation.py',
]
data_root = '{{$PELK_MM_DATA:data}}/ade_tiny'
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
train_dataloader = dict(batch_size=2, num_workers=2, dataset=dict(data_root=data_root))
training_images = dict(img_path='images/training', seg_map_path='annotations/training')
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, data_prefix=training_images))
test_dataloader = val_dataloader
# bfloat16 halves the time of a step on a processor with bfloat16 instructions.
optim_wrapper = dict(type='pelk_mm.BFloat16OptimWrapper')
warmup = 20
max_iters = 600
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=warmup, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=200)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=200, max_keep_ckpts=1),
)
