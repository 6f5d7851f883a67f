"""Do training and validation count their classes alike, and do image lists keep to them?"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.errors import DataError
from ..utils.spread import spread


def check_same_classes(datasets: Sequence[tuple[str, Any]]) -> None:
    """Compare how the data sets of a run number their classes.

    Class folders are numbered in sorted order by each data set alone: one folder more or less shifts all behind it,
    and nothing but a poor accuracy would tell.

    Args:
        datasets: (loader, data set) pairs; the data sets are built, wrappers taken off.

    Raises:
        DataError: Naming the first class with two numbers, or that one of the data sets lacks.
    """
    seen: dict[str, tuple[str, dict[str, int], bool]] = {}
    for loader, dataset in datasets:
        for kind, numbers, complete in _numberings(dataset):
            if kind not in seen:
                seen[kind] = (loader, numbers, complete)
                continue
            first, others, others_complete = seen[kind]
            if complete and others_complete and numbers.keys() != others.keys():
                name = min(numbers.keys() ^ others.keys())
                here, there = (loader, first) if name in numbers else (first, loader)
                raise DataError(
                    f'{kind} {name!r} of {here} is not in {there}: both must have the same ones, since classes are '
                    'numbered in their order'
                )
            for name in sorted(numbers.keys() & others.keys()):
                if numbers[name] != others[name]:
                    raise DataError(
                        f'{kind} {name!r} is class {others[name]} in {first}, but class {numbers[name]} in {loader}'
                    )


def check_listed_labels(dataset: Any, head: str, num_classes: int, loader: str) -> None:
    """Check every label of an image list (lines of a path and a label), mmpretrain's ``CustomDataset``.

    Args:
        dataset: A built data set; others pass.
        head: Name of the head, for messages.
        num_classes: Its number of classes.
        loader: Where the data set comes from, for messages.

    Raises:
        DataError: Naming the line of the first label outside 0 to ``num_classes - 1``.
    """
    file = Path(str(getattr(dataset, 'ann_file', '') or ''))
    if file.suffix != '.txt' or not os.path.isfile(file) or not _is_custom(dataset) or not dataset.with_label:
        return
    lines = file.read_text().splitlines()
    labels = [int(line.rsplit(' ', 1)[1]) for line in lines if line.strip()]
    for number, label in enumerate(labels, start=1):
        if not 0 <= label < num_classes:
            from_one = min(labels) == 1 and max(labels) == num_classes
            raise DataError(
                f'line {number} of {file} ({loader}) holds label {label}, but {head} has num_classes={num_classes}: '
                f'labels must be 0 to {num_classes - 1}{"; these count from 1" if from_one else ""}'
            )


def _numberings(dataset: Any) -> Iterator[tuple[str, dict[str, int], bool]]:
    """Yield (what is numbered, name to number, whether these are all)."""
    if isinstance(getattr(dataset, 'folder_to_idx', None), Mapping):
        yield 'class folder', dict(dataset.folder_to_idx), True
    elif _is_custom(dataset):
        folders = _folders_of_list(dataset)
        if folders:
            yield 'class folder', folders, False
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if classes is not None:
        yield 'class', {str(name): number for number, name in enumerate(classes)}, True


def _folders_of_list(dataset: Any, samples: int = 1000) -> dict[str, int]:
    """Tell from a sample of an image list which folder holds which class; empty where folders are not classes."""
    found: dict[str, int] = {}
    for info in map(dataset.get_data_info, spread(len(dataset), samples)):
        label = info.get('gt_label')
        if not isinstance(label, int) or found.setdefault(Path(info['img_path']).parent.name, label) != label:
            return {}
    return found if len(found) > 1 else {}


def _is_custom(dataset: Any) -> bool:
    return any(base.__name__ == 'CustomDataset' for base in type(dataset).__mro__)
