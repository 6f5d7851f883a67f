# ImageNet-1K at 384 px: the same augmentation, and the whole image in the test, as for ConvNeXt.
_base_ = './imagenet.py'
train_pipeline = [dict(step, scale=384) if 'scale' in step else step for step in _base_.train_pipeline]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(384, 384), **_base_.bicubic),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
