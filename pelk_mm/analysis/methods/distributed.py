"""Methods with PeLK in two processes: DistributedDataParallel that allows no parameter without a gradient."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from .children import Limits, Note, run_together, set_seeds
from .configs import Method
from .samples import training_batch
from .trial import build, read_model
from .verdicts import PASSES, Row

PROCESSES, ITERATIONS = 2, 3


@dataclass(frozen=True)
class DistributedRow:
    """What became of a method in two processes.

    Attributes:
        toolbox: That ships it.
        method: Its name.
        result: 'passes' or the error.
    """

    toolbox: str
    method: str
    result: str


def choose(rows: Sequence[Row], count: int) -> list[Row]:
    """``count`` of the methods that pass alone, evenly spread over them.

    Those whose own heads leave parameters without a gradient, or whose config asks for find_unused_parameters, are left
    out: DistributedDataParallel takes them with no backbone.
    """
    fit_ones = [row for row in rows if row.verdict == PASSES and not row.unused and 'find_unused' not in row.note]
    count = min(count, len(fit_ones))
    return [fit_ones[number * len(fit_ones) // count] for number in range(count)]


def try_distributed(
    rows: Sequence[Row], methods: Sequence[Method], limits: Limits, tell: Callable[[DistributedRow], None]
) -> list[DistributedRow]:
    """Train each method by three steps in two gloo processes, with ``find_unused_parameters=False``.

    Args:
        rows: That pass alone.
        methods: That they are of.
        limits: Of each process.
        tell: Called with each result.
    """
    files = {(method.toolbox, config.name): config for method in methods for config in method.configs}
    found = []
    for row in rows:
        with tempfile.TemporaryDirectory() as folder:
            work = functools.partial(
                _train,
                store=Path(folder) / 'store',
                config=files[row.toolbox, row.config],
                toolbox=row.toolbox,
                size=row.size,
                backbone=row.backbone or {},
                seconds=limits.seconds,
            )
            results = run_together([functools.partial(work, rank=rank) for rank in range(PROCESSES)], limits)
        failures = [result.failure for result in results if result.failure is not None]
        failures.sort(key=lambda failure: failure.kind == 'Killed')  # the one that failed first, not the other
        found.append(DistributedRow(row.toolbox, row.method, str(failures[0]) if failures else PASSES))
        tell(found[-1])
    return found


def _train(
    note: Note,
    rank: int,
    store: Path,
    config: Path,
    toolbox: str,
    size: int,
    backbone: Mapping[str, Any],
    seconds: float,
) -> None:
    note('meet')
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{store}', rank=rank, world_size=PROCESSES, timeout=timedelta(seconds=seconds)
    )
    note('read')
    cfg = read_model(config, toolbox, size, backbone)
    note('build')
    model = build(cfg)
    set_seeds(rank)
    batch = training_batch(model, cfg, size)
    wrapped = MMDistributedDataParallel(model, find_unused_parameters=False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = OptimWrapper(torch.optim.SGD(trained, lr=1e-4))
    for iteration in range(ITERATIONS):
        note(f'iteration {iteration + 1}')
        wrapped.train_step(copy.deepcopy(batch), optimizer)
    torch.distributed.destroy_process_group()
