# UperNet with PeLK-atto on CamVid, from scratch, in one process: CPU or a single GPU.
_base_ = [
    '../_base_/models/upernet_pelk_atto.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/schedule_scratch.py',
    '../_base_/runtime_segmentation.py',
]
crop_size = (256, 256)
ignore_index = 11
# sqrt(median share / share) of the classes' pixel shares: poles, pedestrians and bicyclists weigh more than sky and
# road, but not in full proportion, which would flood the picture with false positives.
class_weight = [0.54, 0.44, 2.16, 0.40, 0.83, 0.64, 2.04, 1.81, 1.00, 2.68, 2.92]
model = dict(
    data_preprocessor=dict(size=crop_size, seg_pad_val=ignore_index),
    decode_head=dict(num_classes=11, ignore_index=ignore_index, loss_decode=dict(class_weight=class_weight)),
    auxiliary_head=dict(num_classes=11, ignore_index=ignore_index, loss_decode=dict(class_weight=class_weight)),
)
# bfloat16 halves the time of a step on a processor with bfloat16 instructions.
optim_wrapper = dict(type='pelk_mm.BFloat16OptimWrapper')
warmup = 100
max_iters = 2400
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=warmup, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=800)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=200, max_keep_ckpts=1, save_best='mIoU'),
)
