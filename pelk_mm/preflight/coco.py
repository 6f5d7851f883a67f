"""Does a COCO annotation file fit the classes of its data set? mmdet drops and renumbers in silence what does not."""

import json
import logging
import mmap
import os
import re
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log

from ..utils.errors import DataError

_KEY = b'"categories"'
# Words of Python's JSON for numbers that are none; in quotes they are names.
_NOT_FINITE = re.compile(rb'[\[:,]\s*(-?Infinity|NaN)\s*[,\]}]')


def check_categories(dataset: Any, loader: str) -> None:
    """Compare the categories of an annotation file with the classes of the data set.

    mmdet numbers labels by the order of the categories in the file, whatever the order of ``metainfo['classes']``, and
    leaves out annotations of any other category.

    Args:
        dataset: A built data set; any but mmdet's ``CocoDataset`` and what reads files as it does pass.
        loader: Where it comes from, for messages.

    Raises:
        DataError: If a number is not finite, a class is no category, the orders differ, annotations use an undeclared
            category, or a training set keeps no annotation.
    """
    if not reads_as_coco(type(dataset)):
        return
    file, classes = str(dataset.ann_file), list(dataset.metainfo['classes'])
    boxes = {key: len(images) for key, images in dataset.cat_img_map.items() if images}
    _check_finite(file, loader)
    categories = read_categories(file)
    if categories is not None:
        _check_names(classes, categories, f'{file} ({loader})')
        undeclared = [key for key in boxes if key not in categories]
        if undeclared:
            raise DataError(
                f'{file} ({loader}) has {boxes[undeclared[0]]} annotation(s) with category_id {undeclared[0]}, which '
                f'is none of its categories ({_first(sorted(categories))}): they would be left out'
            )
    elif len(dataset.cat_ids) != len(classes):
        raise DataError(
            f'{file} ({loader}) holds {len(dataset.cat_ids)} of the {len(classes)} classes of the data set: set '
            'metainfo=dict(classes=...) to its categories'
        )
    dropped = {key: count for key, count in boxes.items() if key not in dataset.cat_ids}
    total = sum(boxes.values())
    if sum(dropped.values()) == total and not dataset.test_mode:
        raise DataError(f'{file} ({loader}) holds no annotation of the classes {_first(classes)}: nothing to train on')
    if dropped:
        names = [(categories or {}).get(key, str(key)) for key in dropped]
        print_log(
            f'{file} ({loader}): {sum(dropped.values())} of {total} annotations are left out, as their categories are '
            f'no classes of the data set: {_first(names)}',
            logger='current',
            level=logging.WARNING,
        )


def _check_finite(path: str, loader: str) -> None:
    if not os.path.isfile(path) or not os.path.getsize(path):
        return
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = _NOT_FINITE.search(data) if data.find(b'NaN') >= 0 or data.find(b'Infinity') >= 0 else None
        if found is not None:
            around = ' '.join(data[max(found.start() - 60, 0) : found.end() + 20].decode('utf-8', 'replace').split())
            raise DataError(
                f'{path} ({loader}) holds {found[1].decode()}, which mmdet would leave out in silence or train on: '
                f'numbers must be finite (... {around} ...)'
            )


def read_categories(path: str) -> dict[int, str] | None:
    """Read the categories of an annotation file without parsing the rest: COCO's own is half a gigabyte.

    Returns:
        Id to name, in the order of the file; None if the file is not local or holds no such list.
    """
    if not os.path.isfile(path) or not os.path.getsize(path):
        return None
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.rfind(_KEY)
        while at >= 0:
            found = _decode_list(data, at + len(_KEY))
            if found is not None:
                return found
            at = data.rfind(_KEY, 0, at)
    return None


def _decode_list(data: mmap.mmap, start: int) -> dict[int, str] | None:
    """Decode what follows a key, if that is a list of categories."""
    for size in (2**20, 2**26):  # a list beyond that is none of categories
        text = data[start : start + size].decode('utf-8', 'ignore').lstrip().removeprefix(':').lstrip()
        try:
            value, _ = json.JSONDecoder().raw_decode(text)
        except ValueError:
            continue
        if isinstance(value, list) and all(isinstance(item, dict) and {'id', 'name'} <= item.keys() for item in value):
            return {item['id']: item['name'] for item in value}
        return None
    return None


def _check_names(classes: list[str], categories: dict[int, str], file: str) -> None:
    names = list(categories.values())
    absent = [name for name in classes if name not in names]
    if absent:
        raise DataError(
            f'{file} has no category {absent[0]!r}, which is a class of the data set ({len(absent)} of {len(classes)} '
            f'are absent); its categories are {_first(names)}. Set metainfo=dict(classes=...) of the data set to them, '
            'and num_classes of every head to their number'
        )
    order = [name for name in names if name in classes]
    if order != classes:
        i = next(i for i, (a, b) in enumerate(zip(order, [*classes, None], strict=False)) if a != b)
        raise DataError(
            f'{file} numbers its categories otherwise than the data set its classes: label {i} is {order[i]!r} in the '
            f'file, but {classes[i] if i < len(classes) else None!r} in metainfo. List the classes in the order of the '
            f'file: {_first(order)}'
        )


def reads_as_coco(kind: type) -> bool:
    """Tell ``CocoDataset`` and its children from those, like LVIS's, that read their files in another way."""
    method = getattr(kind, 'load_data_list', None)
    return any(
        base.__name__ == 'CocoDataset' and base.__dict__.get('load_data_list') is method for base in kind.__mro__
    )


def _first(names: Sequence[Any], count: int = 5) -> str:
    return ', '.join(map(str, names[:count])) + (f', ... ({len(names)} in all)' if len(names) > count else '')
