"""Do the labels of a data set fit the model? Looked at before training, where a wrong id is still easy to name."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from ..checkpoints.loading import unwrap
from ..utils.errors import DataError
from ..utils.spread import spread
from .classes import check_listed_labels
from .images import image_sizes
from .walk import leaves


def check_labels(dataset: Any, model: nn.Module, loader: str, samples: int = 50) -> None:
    """Compare the labels of a data set with the number of classes of the model's heads.

    Label maps are read as the data set's own pipeline reads them (``reduce_zero_label`` and ``label_map`` applied), up
    to ``samples`` of them, spread over the set, and compared with the sizes of their images. Of class labels of images
    and boxes twenty times as many are looked at; lists of labelled images are read whole.

    Args:
        dataset: A built data set of mmseg, mmpretrain or mmdet, wrappers (repeat, concat) included; others pass.
        model: The built model.
        loader: Where the data set comes from, for messages.
        samples: How many label maps to read.

    Raises:
        DataError: If the set is empty, has another number of classes than a head, a label map cannot be read or has
            another size than its image, or a label is beyond ``num_classes``; file and id are named.
    """
    heads = list(_heads(unwrap(model)))
    _check_one_hot(unwrap(model), heads)
    for leaf in leaves(dataset):
        if len(leaf) == 0:
            raise DataError(f'{loader} is empty: {_where(leaf)}')
        for name, num_classes, _ in heads:
            _check_class_count(leaf, name, num_classes, loader)
        if not heads:
            continue
        name, num_classes, ignored = min(heads, key=lambda head: head[1])
        check_listed_labels(leaf, name, num_classes, loader)
        allowed = {ignored, getattr(leaf, 'ignore_index', 255)}
        count = samples if hasattr(leaf, 'label_map') else 20 * samples
        for index in spread(len(leaf), count):
            source, labels = _labels(leaf, index, loader)
            wrong = [int(i) for i in labels if not 0 <= i < num_classes and i not in allowed]
            if wrong:
                raise DataError(
                    f'{source} ({loader}) holds label {wrong[0]}, but {name} has num_classes={num_classes}: labels '
                    f'must be 0 to {num_classes - 1}, or {", ".join(map(str, sorted(allowed)))} (ignored). '
                    f'All such labels in this file: {wrong}'
                )


def _heads(model: nn.Module) -> Iterator[tuple[str, int, int]]:
    """Yield (name, num_classes, ignore_index) of the heads whose classes are those of the data set.

    Proposal heads tell object from background only, and semantic heads beside a detector have classes of their own.
    """
    for name, module in model.named_modules():
        parts = name.split('.')
        is_head = any(part.endswith('head') for part in parts) and not {'rpn_head', 'semantic_head'} & set(parts)
        num_classes = getattr(module, 'num_classes', None)
        if is_head and type(num_classes) is int:
            yield name, num_classes, getattr(module, 'ignore_index', 255)  # type: ignore[misc]


def _check_one_hot(model: nn.Module, heads: list[tuple[str, int, int]]) -> None:
    """mmpretrain's preprocessor turns labels to vectors (for mixup and cutmix) by a ``num_classes`` of its own."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    length = getattr(preprocessor, 'num_classes', None)
    for name, num_classes, _ in heads:
        if getattr(preprocessor, 'to_onehot', False) and length is not None and length != num_classes:
            raise DataError(
                f'data_preprocessor has num_classes={length}, but {name} has num_classes={num_classes}: set both to '
                'the number of classes of the data set'
            )


def _check_class_count(dataset: Any, name: str, num_classes: int, loader: str) -> None:
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if classes is not None and len(classes) != num_classes:
        raise DataError(
            f'{loader} has {len(classes)} classes, but {name} has num_classes={num_classes}: set '
            f'num_classes={len(classes)} in every head of the config, or metainfo=dict(classes=...) in the data set'
        )


def _labels(dataset: Any, index: int, loader: str) -> tuple[str, np.ndarray]:
    """Return where sample ``index`` comes from and the distinct labels it holds."""
    if not hasattr(dataset, 'get_data_info'):
        return '', np.array([], int)
    info = dataset.get_data_info(index)
    if 'seg_map_path' in info and 'label_map' in info:
        source = str(info['seg_map_path'])
        transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
        reading = [t for t in transforms if type(t).__name__.startswith('Load') and 'Annotation' in type(t).__name__]
        if not reading:
            return source, np.array([], int)
        try:
            labels = reading[0](info)['gt_seg_map']
        except Exception as error:  # whatever the reader of a damaged or missing file raises
            reason = str(error).strip().split('\n')[0] or type(error).__name__
            raise DataError(f'label map {source} ({loader}) cannot be read: {reason}') from error
        if labels.ndim != 2 or labels.dtype.kind not in 'iub':
            raise DataError(
                f'label map {source} ({loader}) has shape {labels.shape} and type {labels.dtype}, but a label map has '
                'one channel (H, W) of whole numbers: save it as one channel, each pixel the index of its class'
            )
        _check_map_size(source, labels.shape, info.get('img_path'), loader)
        return source, np.unique(labels)
    source = str(info.get('img_path', f'sample {index}'))
    if 'gt_label' in info:
        return source, np.unique(info['gt_label'])
    if 'instances' in info:
        return source, np.unique([item['bbox_label'] for item in info['instances'] if 'bbox_label' in item]).astype(int)
    return source, np.array([], int)


def _check_map_size(source: str, shape: tuple[int, ...], image: Any, loader: str) -> None:
    sizes = image_sizes(image, loader) if isinstance(image, str) and os.path.isfile(image) else []
    if sizes and (shape[1], shape[0]) not in sizes:
        raise DataError(
            f'label map {source} ({loader}) is {shape[1]}x{shape[0]} pixels, but its image {image} is '
            f'{sizes[0][0]}x{sizes[0][1]}'
        )


def _where(dataset: Any) -> str:
    prefix = getattr(dataset, 'data_prefix', None) or {}
    folders = ', '.join(str(path) for path in (prefix.values() if isinstance(prefix, dict) else [prefix]) if path)
    suffix = f' with suffix {dataset.img_suffix}' if hasattr(dataset, 'img_suffix') else ''
    return f'no image found in {folders or getattr(dataset, "ann_file", "")!r}{suffix}'
