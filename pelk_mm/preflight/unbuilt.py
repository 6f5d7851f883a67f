"""Why a data set could not be built: the toolboxes say it in words of their own code, or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from .coco import reads_as_coco
from .walk import datasets_below, parts_of


def explain(cfg: Config, loader: str, error: Exception) -> str | None:
    """Say in terms of files and folders why a dataloader was not built.

    Args:
        cfg: The config.
        loader: Which dataloader.
        error: What building it raised.

    Returns:
        One line, or None if the error is none of those known to come from the data.
    """
    if 'need at least one array to concatenate' in str(error):  # mmengine stacks the entries of a data set
        reasons = [_why_empty(dataset) for _, dataset in datasets_below(cfg.get(loader), loader)]
        return f'{loader} is empty: {"; ".join(reasons)}'
    if 'Found 0 files in subfolders' in str(error):
        folders = [_folder(dataset) for _, dataset in datasets_below(cfg.get(loader), loader)]
        return f'{loader} is empty: {"; ".join(map(_why_no_samples, folders))}'
    if 'number of subfolders' in str(error):
        for _, dataset in datasets_below(cfg.get(loader), loader):
            found, classes = _count_folders(_folder(dataset)), _classes(dataset)
            if found != len(classes):
                return (
                    f'{_folder(dataset)} ({loader}) holds {found} class folders, but {dataset["type"]} has '
                    f'{len(classes)} classes: name them in metainfo=dict(classes=...), or use CustomDataset, which '
                    'takes the folders for the classes'
                )
    for _, dataset in datasets_below(cfg.get(loader), loader):
        kind, listing = _kind(dataset), _listing(dataset)
        # others keep other content in their JSON, and what failed may be anything
        if isinstance(kind, type) and reads_as_coco(kind) and os.path.isfile(listing):
            fault = _fault_of_coco(listing)
            if fault is not None:
                return f'{listing} ({loader}) {fault}'
    return None


def _why_empty(dataset: Mapping) -> str:
    root = dataset.get('data_root') or ''
    listing = _listing(dataset)
    if listing.suffix == '.json' and os.path.isfile(listing):
        return f'{listing} {_why_coco_is_empty(listing, _classes(dataset))}'
    if os.path.isfile(listing):
        return f'{listing} lists no image'
    folders = ', '.join(str(Path(root, path)) for path in parts_of(dataset).values() or [''])
    return f'no image with the suffix of its data set in {folders}'


def _listing(dataset: Mapping) -> Path:
    return Path(os.path.expanduser(Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')))


def _fault_of_coco(file: Path) -> str | None:
    """Find the first part of an annotation file that is not what the format asks for."""
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        return f'is not JSON: {error}'
    lists = content if isinstance(content, dict) else {}
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(lists.get(key), list):
            return f'has no list of {key}: is it an annotation file in the format of COCO?'
    for i, entry in enumerate(lists['annotations']):
        box = entry.get('bbox') if isinstance(entry, dict) else None
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
            return f'has annotation {i} with bbox {box!r}, which must be four numbers'
    images = {entry.get('id') for entry in lists['images'] if isinstance(entry, dict)}
    for i, entry in enumerate(lists['annotations']):
        if entry.get('image_id') not in images:
            return f'has annotation {i} of image_id {entry.get("image_id")!r}, which is none of its images'
    return None


def _why_coco_is_empty(file: Path, classes: list[str]) -> str:
    content = json.loads(file.read_text())
    images, boxes = content.get('images') or [], content.get('annotations') or []
    names = {item['id']: item['name'] for item in content.get('categories') or []}
    if not images:
        return 'lists no image'
    used = {names.get(box['category_id']) for box in boxes}
    if not boxes or not used & set(classes):
        kept = f'the classes {", ".join(classes[:5])}{", ..." if len(classes) > 5 else ""}'
        return (
            f'lists {len(images)} image(s) and {len(boxes)} annotation(s), none of {kept}; its categories are '
            f'{", ".join(list(names.values())[:5]) or "none"}'
        )
    return f'lists {len(images)} image(s), of which filter_cfg keeps none'


def _why_no_samples(folder: Path) -> str:
    loose = sum(child.is_file() for child in folder.iterdir()) if folder.is_dir() else 0
    hint = f': sort the {loose} files there into one folder a class, or list them in an ann_file' if loose else ''
    return f'no image in a class folder below {folder}{hint}'


def _folder(dataset: Mapping) -> Path:
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    below = prefix.get('img_path') or '' if isinstance(prefix, Mapping) else prefix
    return Path(os.path.expanduser(Path(dataset.get('data_root') or '', below)))


def _count_folders(folder: Path) -> int:
    return sum(child.is_dir() for child in folder.iterdir())


def _kind(dataset: Mapping) -> Any:
    kind = dataset['type']
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:  # that of the config's default_scope
            kind = registry.get(kind)
    return kind


def _classes(dataset: Mapping) -> list[str]:
    meta = {**getattr(_kind(dataset), 'METAINFO', {}), **(dataset.get('metainfo') or {})}
    return list(dataset.get('classes') or meta.get('classes') or ())
