"""Do the labels of a data set fit the model? Looked at before training, where a wrong id is still easy to name."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.logging import print_log
from torch import nn

from .checkpoint import unwrap
from .errors import DataError


def check_labels(dataset: Any, model: nn.Module, loader: str, samples: int = 50) -> None:
    """Compare the labels of a data set with the number of classes of the model's heads.

    Label maps are read as the data set's own pipeline reads them (``reduce_zero_label`` and ``label_map`` applied), up
    to ``samples`` of them, spread over the set. Of class labels of images and boxes twenty times as many are looked at.

    Args:
        dataset: A built data set of mmseg, mmpretrain or mmdet, wrappers (repeat, concat) included; others pass.
        model: The built model.
        loader: Where the data set comes from, for messages.
        samples: How many label maps to read.

    Raises:
        DataError: If the set is empty, has more classes than the model, a label map cannot be read, or a label is
            beyond ``num_classes``; file and id are named.
    """
    heads = list(_heads(unwrap(model)))
    for leaf in _leaves(dataset):
        if len(leaf) == 0:
            raise DataError(f'{loader} is empty: {_where(leaf)}')
        for name, num_classes, _ in heads:
            _check_class_count(leaf, name, num_classes, loader)
        if not heads:
            continue
        name, num_classes, ignored = min(heads, key=lambda head: head[1])
        allowed = {ignored, getattr(leaf, 'ignore_index', 255)}
        count = samples if hasattr(leaf, 'label_map') else 20 * samples
        for index in np.linspace(0, len(leaf) - 1, min(count, len(leaf)), dtype=int):
            source, labels = _labels(leaf, int(index), loader)
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


def _leaves(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside repeating and concatenating wrappers."""
    if hasattr(dataset, 'datasets'):
        for child in dataset.datasets:
            yield from _leaves(child)
    elif hasattr(dataset, 'dataset'):
        yield from _leaves(dataset.dataset)
    else:
        yield dataset


def _check_class_count(dataset: Any, name: str, num_classes: int, loader: str) -> None:
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if classes is None or len(classes) == num_classes:
        return
    found = f'{loader} has {len(classes)} classes, but {name} has num_classes={num_classes}'
    if len(classes) > num_classes:
        raise DataError(f'{found}: set num_classes={len(classes)} in every head of the config')
    print_log(f'{found}; the rest will never be seen', logger='current', level=logging.WARNING)


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
            return source, np.unique(reading[0](info)['gt_seg_map'])
        except Exception as error:  # whatever the reader of a damaged or missing file raises
            reason = str(error).strip().split('\n')[0] or type(error).__name__
            raise DataError(f'label map {source} ({loader}) cannot be read: {reason}') from error
    source = str(info.get('img_path', f'sample {index}'))
    if 'gt_label' in info:
        return source, np.unique(info['gt_label'])
    if 'instances' in info:
        return source, np.unique([item['bbox_label'] for item in info['instances'] if 'bbox_label' in item]).astype(int)
    return source, np.array([], int)


def _where(dataset: Any) -> str:
    prefix = getattr(dataset, 'data_prefix', None) or {}
    folders = ', '.join(str(path) for path in (prefix.values() if isinstance(prefix, dict) else [prefix]) if path)
    suffix = f' with suffix {dataset.img_suffix}' if hasattr(dataset, 'img_suffix') else ''
    return f'no image found in {folders or getattr(dataset, "ann_file", "")!r}{suffix}'
