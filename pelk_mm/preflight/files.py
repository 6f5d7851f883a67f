"""Whether the files, folders and checkpoints that a config names are there."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ..checkpoints.deploy import is_deployed
from ..checkpoints.reading import read_checkpoint
from ..utils.errors import CheckpointError, DataError
from .walk import datasets_below, parts_of, pretrained_files


def check_data(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that the folders and files which the data sets and evaluators of a config name exist.

    Args:
        cfg: The config.
        loaders: Which of 'train_dataloader', 'val_dataloader', 'test_dataloader' will be used.

    Raises:
        DataError: Naming the path and the layout expected below ``data_root``, or as ``check_evaluators``.
    """
    for loader in loaders:
        for key, dataset in datasets_below(cfg.get(loader), loader):
            root = dataset.get('data_root') or ''
            parts = {name: path for name, path in parts_of(dataset).items() if not _is_remote(f'{root}{path}')}
            if _is_remote(root):
                continue
            layout = ', '.join(f'{Path(root, path)} ({name})' for name, path in parts.items())
            expected = f'; expected layout: {layout}' if layout else ''
            full_root = os.path.abspath(os.path.expanduser(root))
            if root and not os.path.isdir(full_root):
                raise DataError(
                    f'data_root {root!r} of {loader} does not exist (looked for {full_root})'
                    f'{expected}. Set it with --cfg-options {key}.data_root=PATH'
                )
            for name, path in parts.items():
                full = os.path.expanduser(Path(root, path))
                if not os.path.exists(full):
                    raise DataError(f'{name} of {loader} does not exist: {full}{expected}')
        datasets = [dataset for _, dataset in datasets_below(cfg.get(loader), loader)]
        check_evaluators(cfg.get(loader.replace('dataloader', 'evaluator')), datasets, loader)


def check_evaluators(evaluators: Any, datasets: Sequence[Mapping], loader: str) -> None:
    """Check that what scores a data set reads the same annotation file as the data set.

    Args:
        evaluators: ``val_evaluator`` or ``test_evaluator`` of a config: None, a dict or a list of dicts.
        datasets: The configs of the loader's innermost data sets.
        loader: The loader, for messages.

    Raises:
        DataError: If an evaluator's ``ann_file`` is missing, or another one than the data set's.
    """
    for evaluator in [evaluators] if isinstance(evaluators, Mapping) else evaluators or []:
        path = evaluator.get('ann_file') if isinstance(evaluator, Mapping) else None
        if not isinstance(path, str) or not path or '://' in path:
            continue
        name = loader.replace('dataloader', 'evaluator')
        if not os.path.exists(path):
            raise DataError(f'ann_file of {name} does not exist: {path}; it is set by {name}.ann_file')
        named = (Path(d.get('data_root') or '', d['ann_file']) for d in datasets if d.get('ann_file'))
        read = [os.path.expanduser(file) for file in named]
        if len(datasets) == 1 and read and os.path.realpath(read[0]) != os.path.realpath(path):
            raise DataError(
                f'{loader} reads {read[0]}, but {name} scores against {path}: set {name}.ann_file to the same file'
            )


def check_checkpoints(cfg: Config, trust: bool = False) -> dict[str, dict[str, torch.Size]]:
    """Read every local checkpoint that the config's models are initialised from, and see that training can use it.

    Names such as ``https://...`` are left to mmengine.

    Returns:
        By file the shapes of its weights, under their names without the prefix of a distributed wrapper.

    Raises:
        CheckpointError: If one is missing, damaged, unsafe, deployed, or lacks the prefix asked for.
    """
    shapes: dict[str, dict[str, torch.Size]] = {}
    for path, start in pretrained_files(cfg.model):
        if _is_remote(path):
            continue
        checkpoint = read_checkpoint(path, trust=trust)
        if is_deployed(checkpoint):
            raise CheckpointError(f'checkpoint {path} (init_cfg) is in its deployed form, which cannot be trained')
        weights = {key: value for key, value in checkpoint['state_dict'].items() if isinstance(value, torch.Tensor)}
        shapes[path] = {key.removeprefix('module.'): value.shape for key, value in weights.items()}
        if not any(key.startswith(start) for key in shapes[path]):
            first = next(iter(checkpoint['state_dict']), 'none')
            raise CheckpointError(
                f'checkpoint {path} (init_cfg) has no key that starts with {start!r}; its first key is {first!r}'
            )
    return shapes


def note_random_start(cfg: Config) -> list[str]:
    """Say so where a config that asks for a pretrained checkpoint, by its variable ``pretrained``, was given none.

    Returns:
        One line to be logged as a warning, or nothing: the config has no such variable, or training starts from a
        checkpoint, be it named by the variable, by an ``init_cfg`` or by ``load_from``.
    """
    if cfg.get('pretrained') != 'none' or cfg.get('load_from') or any(pretrained_files(cfg.model)):
        return []
    return [
        'No pretrained checkpoint: training from scratch, far below what this recipe is for. '
        'Name one with PELK_MM_PRETRAINED=FILE before the command'
    ]


def _is_remote(path: str) -> bool:
    return '://' in path
