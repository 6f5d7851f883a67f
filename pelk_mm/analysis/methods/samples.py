"""Two made-up images and their labels, as the data loader of a method would hand them to its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from torch import nn

from .configs import walk

IMAGES = 2
_CLASSES = ('num_classes', 'num_things_classes')


def training_batch(model: nn.Module, cfg: Config, size: int) -> dict[str, Any]:
    """A batch for training, before the model's data preprocessor.

    Args:
        model: Of the config.
        cfg: Its pipeline makes the views of a self-supervised method, at the size that it names.
        size: Pixels a side of the images.

    Raises:
        ValueError: The model is of no toolbox that is known.
    """
    return _batch(model, cfg, size, training=True)


def testing_batch(model: nn.Module, cfg: Config, size: int) -> dict[str, Any]:
    """A batch for predicting, before the model's data preprocessor; else as :func:`training_batch`."""
    return _batch(model, cfg, size, training=False)


def image_channels(cfg: Config) -> int:
    """Channels of the images, by the means that are taken from them; 3 where there are none."""
    return len((cfg.model.get('data_preprocessor') or {}).get('mean') or (0, 0, 0))


def is_self_supervised(model: nn.Module) -> bool:
    """Whether a model learns from images alone: such a one has features and predicts nothing."""
    return any(base.__name__ == 'BaseSelfSupervisor' for base in type(model).__mro__)


def _batch(model: nn.Module, cfg: Config, size: int, training: bool) -> dict[str, Any]:
    bases = {base.__name__ for base in type(model).__mro__}
    toolbox = type(model).__module__.partition('.')[0]
    if is_self_supervised(model):
        return _views(cfg) if training else {'inputs': torch.rand(IMAGES, 3, size, size)}
    if toolbox == 'mmseg':
        return _segmentation(cfg, size)
    if toolbox == 'mmpretrain' or 'BaseReID' in bases:
        return _classification(model, cfg, size, 'BaseReID' in bases)
    if toolbox != 'mmdet':
        raise ValueError(f'model must be of mmdet, mmseg or mmpretrain, but is a {type(model).__name__}')
    if 'SemiBaseDetector' in bases and training:
        return _branches(model, cfg, size)
    if 'BaseMOTModel' in bases and not (training and trains_on_images(model)):
        return _video(cfg, size, training)
    return _detection(model, cfg, size)


def trains_on_images(tracker: nn.Module) -> bool:
    """Whether a tracker of mmdet is trained as a detector, on single images."""
    return bool(getattr(tracker.data_preprocessor, 'use_det_processor', False))


def _least_classes(cfg: Config) -> int:
    """The fewest classes that a part of the model has: a label below it is one everywhere."""
    counts = [node[name] for node in walk(cfg.model) for name in _CLASSES if isinstance(node.get(name), int)]
    return min([count for count in counts if count > 0], default=10)


def _detection(model: Any, cfg: Config, size: int) -> dict[str, Any]:
    from mmdet.testing import demo_mm_inputs, demo_mm_proposals

    shape, classes = (image_channels(cfg), size, size), _least_classes(cfg)
    parts = getattr(model, 'roi_head', None)
    data = demo_mm_inputs(
        IMAGES,
        shape,
        num_items=[3, 4],
        num_classes=max(classes, 2),  # labels are drawn from 1 on
        with_mask=True,
        with_semantic=True,
        sem_seg_output_strides=8 if getattr(parts, 'with_semantic', False) else 1,
    )
    for sample in data['data_samples']:
        sample.gt_instances.labels %= classes
    if parts is not None and not model.with_rpn:
        for sample, proposals in zip(data['data_samples'], demo_mm_proposals([shape] * IMAGES, 20), strict=True):
            sample.proposals = proposals
    return data


def _branches(model: Any, cfg: Config, size: int) -> dict[str, Any]:
    """Labelled images, and unlabelled ones for teacher and student."""
    branches = {name: _detection(model.student, cfg, size) for name in ('sup', 'unsup_teacher', 'unsup_student')}
    for branch in branches.values():
        for sample in branch['data_samples']:
            sample.set_metainfo({'homography_matrix': np.eye(3)})
    return {key: {name: branch[key] for name, branch in branches.items()} for key in ('inputs', 'data_samples')}


def _video(cfg: Config, size: int, training: bool) -> dict[str, Any]:
    from mmdet.testing import demo_track_inputs

    data = demo_track_inputs(
        1,
        2 if training else 1,
        key_frames_inds=[0] if training else None,
        image_shapes=(3, size, size),
        num_items=[3],
        num_classes=min(_least_classes(cfg), 10),
        with_mask=True,
    )
    for sample in data['data_samples']:
        sample.set_metainfo({'ori_video_length': len(sample)})
        for frame in sample.video_data_samples:
            frame.set_metainfo({'ori_video_length': len(sample)})
    return data


def _segmentation(cfg: Config, size: int) -> dict[str, Any]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(IMAGES):
        shape = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), (size, size))
        sample = SegDataSample(metainfo={**shape, 'scale_factor': (1.0, 1.0), 'flip': False})
        labels = torch.randint(0, _least_classes(cfg), (1, size, size))
        sample.gt_sem_seg = PixelData(data=labels)
        sample.gt_edge_map = PixelData(data=torch.randint(0, 2, (1, size, size)))  # PIDNet alone reads it
        samples.append(sample)
    return {'inputs': _images(cfg, size), 'data_samples': samples}


def _classification(model: Any, cfg: Config, size: int, reid: bool) -> dict[str, Any]:
    if reid:
        from mmdet.structures import ReIDDataSample as DataSample
    else:
        from mmpretrain.structures import DataSample
    classes, head = _least_classes(cfg), getattr(model, 'head', None)
    many = 'MultiLabel' in ' '.join(base.__name__ for base in type(head).__mro__)
    samples = []
    for number in range(IMAGES):
        sample = DataSample()
        if many:
            sample.set_gt_score(torch.rand(classes).round())
        else:
            sample.set_gt_label(number % classes)
        sample.set_field(classes, 'num_classes', field_type='metainfo')
        samples.append(sample)
    return {'inputs': _images(cfg, size), 'data_samples': samples}


def _images(cfg: Config, size: int) -> list[torch.Tensor]:
    return [torch.randint(0, 256, (image_channels(cfg), size, size), dtype=torch.uint8) for _ in range(IMAGES)]


def _views(cfg: Config) -> dict[str, Any]:
    """What the config's own training pipeline makes of made-up images."""
    steps = [step for step in cfg.train_dataloader.dataset.pipeline if not _loads(step)]
    pipeline = Compose(steps)
    samples = []
    for number in range(IMAGES):
        image = np.random.randint(0, 256, (256, 256, 3), dtype=np.uint8)
        found = {'img': image, 'img_shape': (256, 256), 'ori_shape': (256, 256)}
        samples.append(pipeline({**found, 'img_path': '', 'sample_idx': number, 'gt_label': number}))
    return default_collate(samples)


def _loads(step: Mapping[str, Any]) -> bool:
    return str(step['type']).rpartition('.')[2].startswith('LoadImage')
