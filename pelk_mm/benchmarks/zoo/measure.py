"""Counting and timing the networks of ``docs/nets/zoo.md``: the work of ``tools/analysis_tools/zoo.py``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ...analysis.counting.complexity import count_complexity
from ...analysis.counting.count_config import build_counted
from ...checkpoints.deploy import switch_to_deploy
from ...engine.config import load_config
from ...utils.errors import ConfigError, naming
from ..harness import Measured
from .forms import benchmark_forms
from .table import ENTRIES, SHIFTWISE, Counts, Entry, runs


def choose(names: Sequence[str] | None) -> tuple[Entry, ...]:
    """The entries of these names, in the order of the table; all for None.

    Raises:
        ConfigError: There is no such network.
    """
    known = [entry.name for entry in ENTRIES]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError(f'--only must be some of {", ".join(known)}, but got {", ".join(unknown)}')
    return tuple(entry for entry in ENTRIES if names is None or entry.name in names)


def count_zoo(
    folder: Path, entries: Sequence[Entry], shape: Sequence[int] = (224, 224)
) -> tuple[dict[str, Counts], dict[str, str]]:
    """Count networks on the meta device.

    Args:
        folder: Where the configs lie.
        entries: Of :data:`~pelk_mm.benchmarks.zoo.table.ENTRIES`.
        shape: (H, W) of the image.

    Returns:
        Counts by name; and the reasons why others of mmpretrain's own networks could not be counted.

    Raises:
        ConfigError: A config of this package is missing or cannot be counted.
    """
    counts: dict[str, Counts] = {}
    skipped: dict[str, str] = {}
    for entry in entries:
        try:
            counts[entry.name] = _count(folder, entry, shape)
        except ConfigError as error:
            if entry.ours:
                raise
            skipped[entry.name] = str(error)
    return counts, skipped


def time_zoo(
    folder: Path,
    entries: Sequence[Entry],
    *,
    size: int,
    batch: int,
    device: torch.device,
    repeats: int,
    progress: Callable[[str], None] = lambda line: None,
) -> Measured:
    """Time networks, as many at once as :func:`~pelk_mm.benchmarks.zoo.table.runs` sets side by side.

    Args:
        folder, entries: As for :func:`count_zoo`.
        size, batch, device, repeats: As for :func:`~pelk_mm.benchmarks.zoo.forms.benchmark_forms`.
        progress: Told what comes next.

    Raises:
        GateError: A form of one of our networks is wrong.
        ValueError: An argument is out of its range.
    """
    result = Measured()
    for run in runs(entries):
        progress(', '.join(entry.name for entry in run))
        timed = benchmark_forms(
            {entry.name: partial(build_backbone, folder, entry) for entry in run},
            size=size,
            batch=batch,
            device=device,
            repeats=repeats,
            loops=[SHIFTWISE],
            rivals=[entry.name for entry in run if not entry.ours],
        )
        result.timings += timed.timings
        result.skipped |= timed.skipped
    return result


def build_backbone(folder: Path, entry: Entry) -> nn.Module:
    """An entry's backbone with random weights, and BatchNorm for SyncBN.

    Raises:
        ConfigError: If it cannot be built.
    """
    cfg = load_config(folder / f'{entry.config}.py', entry.overrides)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with naming(f'the backbone of {entry.name}'):
        return cast(nn.Module, revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.model.backbone))))


def _count(folder: Path, entry: Entry, shape: Sequence[int]) -> Counts:
    model = build_counted(load_config(folder / f'{entry.config}.py', entry.overrides))
    params = sum(parameter.numel() for parameter in model.parameters())
    with torch.device('meta'):  # where mmpretrain's RepLKNet makes its merged convolutions
        switch_to_deploy(model)
    return Counts(params, count_complexity(model, shape).macs)
