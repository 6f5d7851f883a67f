"""Tiny projects for the tools: made-up data, a config of each toolbox, and a checkpoint of the segmentor."""

import json

import numpy as np
import pytest
from PIL import Image

SEGMENTOR = """
default_scope = 'mmseg'
data_root = {data!r}
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
pack = [dict(type='PackSegInputs')]
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    metainfo=dict(classes=('sky', 'ground', 'tree'), palette=[[0, 0, 255], [0, 255, 0], [255, 0, 0]]),
    pipeline=load + pack,
)
train_dataloader = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
val_dataloader = train_dataloader
test_dataloader = train_dataloader
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[128.] * 3, std=[64.] * 3, bgr_to_rgb=True, size=(64, 64), pad_val=0,
        seg_pad_val=255),
    backbone=dict(
        type='pelk_mm.PeLK', arch=dict(depths=(1, 1, 1, 1), channels=(8, 8, 8, 8)), width_factor=1.0,
        kernel_sizes=(13, 11, 9, 7), out_indices=(0, 3), gap_before_final_norm=False, layer_scale_init_value=1.0,
        branch_norm_cfg=dict(type='SyncBN')),
    decode_head=dict(
        type='FCNHead', in_channels=8, in_index=0, channels=4, num_convs=1, concat_input=False, num_classes=3,
        norm_cfg=dict(type='SyncBN'), align_corners=False, loss_decode=dict(type='CrossEntropyLoss')),
    test_cfg=dict(mode='whole'),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.001))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False))
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
env_cfg = dict(dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0)
log_processor = dict(by_epoch=False)
"""

CLASSIFIER = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=3, mean=[128.] * 3, std=[64.] * 3, to_rgb=True)
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=64), dict(type='CenterCrop', crop_size=64),
    dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root={data!r}, data_prefix='classes', pipeline=pipeline))
test_dataloader = train_dataloader
test_evaluator = dict(type='Accuracy', topk=(1,))
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.001))
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='pelk_mm.PeLK', arch=dict(depths=(1, 1, 1, 1), channels=(8, 8, 8, 8)), width_factor=1.0,
        kernel_sizes=(13, 11, 9, 7), layer_scale_init_value=1.0),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=8, loss=dict(type='CrossEntropyLoss')),
)
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
"""

DETECTOR = """
default_scope = 'mmdet'
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
train_dataloader = dict(
    batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root={data!r}, ann_file='boxes.json', data_prefix=dict(img='images/'),
        metainfo=dict(classes=('square',), palette=[(255, 0, 0)]), pipeline=pipeline))
test_dataloader = train_dataloader
test_evaluator = dict(type='CocoMetric', ann_file={data!r} + '/boxes.json', metric='bbox')
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.001))
model = dict(
    type='FCOS',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[128.] * 3, std=[64.] * 3, bgr_to_rgb=True, pad_size_divisor=32),
    backbone=dict(
        type='pelk_mm.PeLK', arch=dict(depths=(1, 1, 1, 1), channels=(8, 8, 8, 8)), width_factor=1.0,
        kernel_sizes=(13, 11, 9, 7), out_indices=(1, 2), gap_before_final_norm=False, layer_scale_init_value=1.0),
    neck=dict(type='FPN', in_channels=[8, 8], out_channels=8, num_outs=2),
    bbox_head=dict(
        type='FCOSHead', num_classes=1, in_channels=8, feat_channels=8, stacked_convs=1, strides=[8, 16],
        regress_ranges=((-1, 32), (32, 1000)), norm_cfg=None),
    test_cfg=dict(nms_pre=10, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5),
)
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
"""


@pytest.fixture(scope='session')
def tool_data(tmp_path_factory):
    """Four images with label maps, class folders and COCO boxes."""
    root = tmp_path_factory.mktemp('data')
    random = np.random.default_rng(0)
    for folder in ('images', 'labels', 'classes/a', 'classes/b', 'classes/c'):
        (root / folder).mkdir(parents=True)
    coco = {'images': [], 'annotations': [], 'categories': [{'id': 1, 'name': 'square'}]}
    for i in range(4):
        picture = Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        picture.save(root / 'images' / f'{i}.jpg')
        picture.save(root / 'classes' / 'abca'[i] / f'{i}.jpg')
        Image.fromarray(random.integers(0, 3, (48, 64), dtype=np.uint8)).save(root / 'labels' / f'{i}.png')
        coco['images'].append({'id': i, 'file_name': f'{i}.jpg', 'width': 64, 'height': 48})
        box = {'bbox': [8, 8, 16, 16], 'area': 256, 'iscrowd': 0}
        coco['annotations'].append({'id': i, 'image_id': i, 'category_id': 1, **box})
    (root / 'boxes.json').write_text(json.dumps(coco))
    return root


@pytest.fixture
def project(tool_data, tmp_path, monkeypatch):
    """Write configs of all three toolboxes into the test's own folder and work there; return the folder."""
    monkeypatch.chdir(tmp_path)
    for name, text in (('seg', SEGMENTOR), ('cls', CLASSIFIER), ('det', DETECTOR)):
        (tmp_path / f'{name}.py').write_text(text.replace('{data!r}', repr(str(tool_data))))
    return tmp_path


@pytest.fixture
def checkpoints(project):
    """Save untrained, but not trivial, weights for each config; return their paths by task."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    paths = {}
    for name in ('seg', 'cls', 'det'):
        cfg = Config.fromfile(project / f'{name}.py')
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        for module in model.modules():
            if hasattr(module, 'running_var'):  # statistics that a wrong merge would show
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        paths[name] = project / f'{name}.pth'
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, paths[name])
    return paths
