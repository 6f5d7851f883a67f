# Twenty classes of Tiny ImageNet in folders: {train,val}/<wnid>/*.JPEG, 64x64 pixels, 300 and 50 images a class.
# The data are looked for in data/imagenet_tiny; PELK_MM_DATA names another folder than data/.
data_root = '{{$PELK_MM_DATA:data}}/imagenet_tiny'
# In the order of their folders.
metainfo = dict(
    classes=(
        'goldfish',
        'centipede',
        'black stork',
        'tabby',
        'walking stick',
        'bison',
        'academic gown',
        'beach wagon',
        'bucket',
        'Christmas stocking',
        'dumbbell',
        'iPod',
        'miniskirt',
        'pill bottle',
        'refrigerator',
        'sombrero',
        'teapot',
        'viaduct',
        'ice lolly',
        'meat loaf',
    )
)
# Light: 6000 images a small net sees about thirty times. Images keep their size.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=64,
        crop_ratio_range=(0.5, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs'),
]
dataset = dict(type='CustomDataset', data_root=data_root, metainfo=metainfo)
loader = dict(batch_size=64, num_workers=1, persistent_workers=True, collate_fn=dict(type='default_collate'))
train_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, data_prefix='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, data_prefix='val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
