# UperNet with PeLK-atto on the scenes of tools/make_toy_data.py: a few minutes on two CPU cores.
# They are in ADE20K's layout and numbering, so mmseg's own ADE20KDataset reads them.
_base_ = [
    '../_base_/models/upernet_pelk_atto.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_scratch.py',
    '../_base_/runtime_segmentation.py',
]
data_root = '{{$PELK_MM_DATA:data}}/toy'
# The classes of ADE20K that occur. Logits for all 150 would take three quarters of the training time.
classes = ('sky', 'windowpane', 'sea', 'box', 'boat', 'light', 'ball', 'plate', 'flag')
crop_size = (128, 128)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    # Whole scenes, as they are drawn: what lies above and below the horizon is told apart only by the horizon.
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
# Sky and sea are four fifths of the pixels and learnt first; the objects take most of the time.
class_weight = [0.25, 1.0, 0.25, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
batch_size = 8
# A sum over what these weights come to on average. To take the mean itself, mmseg 1.2 would look up the weight of
# unlabelled pixels too, and stop.
mean = 1 / (0.41 * batch_size * crop_size[0] * crop_size[1])
loss = dict(class_weight=class_weight, reduction='sum')
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=len(classes), loss_decode=dict(**loss, loss_weight=mean)),
    auxiliary_head=dict(num_classes=len(classes), loss_decode=dict(**loss, loss_weight=0.4 * mean)),
)
# Images this small are read faster than a worker process hands them over.
loader = dict(num_workers=0, persistent_workers=False)
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=batch_size, **loader, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, **loader, dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=2e-3))
warmup = 50
max_iters = 1000
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=warmup, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=250)
default_hooks = dict(
    logger=dict(interval=20),
    # A second call of the demo after an interruption goes on from the last of these.
    checkpoint=dict(interval=100, max_keep_ckpts=1),
)
randomness = dict(seed=0)
