"""Walking configs and data sets: what every check goes through."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..engine.runner.repeatable_data import SeededSamples


def datasets_below(node: Any, key: str) -> Iterator[tuple[str, Mapping]]:
    """Yield the innermost data set configs below a dataloader, with their dotted names."""
    if not isinstance(node, Mapping):
        return
    children = [('dataset', node.get('dataset'))]
    children += [(f'datasets.{i}', child) for i, child in enumerate(node.get('datasets') or ())]
    children = [(name, child) for name, child in children if isinstance(child, Mapping)]
    if not children and 'type' in node:
        yield key, node
    for name, child in children:
        yield from datasets_below(child, f'{key}.{name}')


def innermost(dataset: Any) -> Any:
    """Look through repeating and balancing wrappers, whose config holds one ``dataset``, or through a dataloader.

    What joins several ``datasets`` is returned as it is; :func:`datasets_below` goes on into it.
    """
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def parts_of(dataset: Mapping) -> dict[str, str]:
    """Collect what a data set config says lies below its data_root: prefixes, and the annotation file."""
    prefix = dataset.get('data_prefix') or {}
    parts = dict(prefix) if isinstance(prefix, Mapping) else {'data_prefix': prefix}
    parts['ann_file'] = dataset.get('ann_file')
    return {name: path for name, path in parts.items() if isinstance(path, str) and path}


def pretrained_files(node: Any) -> Iterator[tuple[str, str]]:
    """Yield the checkpoint of every init_cfg of type Pretrained below a model config, and what its keys start with."""
    if isinstance(node, Mapping):
        if node.get('type') == 'Pretrained' and isinstance(node.get('checkpoint'), str):
            prefix = node.get('prefix')
            yield node['checkpoint'], prefix.rstrip('.') + '.' if prefix else ''
        for child in node.values():
            yield from pretrained_files(child)
    elif isinstance(node, list | tuple):
        for child in node:
            yield from pretrained_files(child)


def leaves(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside repeating, concatenating and seeding wrappers."""
    if isinstance(dataset, SeededSamples):  # passes every attribute on, but is no kind of what is inside
        dataset = vars(dataset)['_samples']
    if hasattr(dataset, 'datasets'):
        for child in dataset.datasets:
            yield from leaves(child)
    elif hasattr(dataset, 'dataset'):
        yield from leaves(dataset.dataset)
    else:
        yield dataset
