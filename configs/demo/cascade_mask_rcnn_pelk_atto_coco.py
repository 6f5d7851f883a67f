# Cascade Mask R-CNN with PeLK-atto on a sample of COCO, from scratch, in one process: 50 images to train, 50 to test.
# Fifty images teach no one to detect: this shows the way from CocoDataset to CocoMetric. What the net can learn is
# shown by cascade_mask_rcnn_pelk_atto_coco_overfit.py.
_base_ = [
    '../_base_/models/cascade_mask_rcnn_pelk_atto.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_scratch.py',
    '../_base_/runtime_detection.py',
]
data_root = '{{$PELK_MM_DATA:data}}/coco_tiny'
scale = (320, 320)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        # With the truth, for a metric without an annotation file.
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val2017.json')
test_evaluator = val_evaluator
warmup = 100
max_iters = 900
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=warmup, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=300)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=300, max_keep_ckpts=1),
)
randomness = dict(seed=0)
