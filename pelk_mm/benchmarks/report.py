"""The files of ``docs/benchmarks/``: tables and curves of everything that is timed, on one device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..analysis.figures.charts import csv_text, png_bytes
from .harness import Measured
from .machine import describe_machine
from .nets.evaluation import benchmark_model
from .nets.train_step import benchmark_train
from .op.measure import benchmark_op
from .op.sweeps import central_size, draw_sweep, sweep, sweep_rows, sweep_table
from .op.table import op_table
from .tables import describe, net_table

#: By name of a file.
Files = dict[str, str | bytes]


@dataclass(frozen=True)
class Plan:
    """What is timed on a device.

    Attributes:
        device: Where.
        dtype: Of the convolutions; nets run in it by autocast.
        ops: (batch, channels, map, K, backward) of the convolutions that get a table of their own.
        sweep_batch, sweep_channels: Of the curves.
        kernel_sizes: Of the curve on maps of ``fixed_size``.
        sizes: Maps of the curve with kernels of ``fixed_kernel``.
        arch, image_size, batch, train_batch: Of the nets.
        repeats: Samples of each variant.
        limit, op_limit, net_limit: Seconds a call above which nothing is timed: on curves, in tables, for nets.
        command: What wrote the files, to stand in them.
        progress: Told what comes next.
    """

    device: torch.device
    dtype: torch.dtype
    ops: tuple[tuple[int, int, int, int, bool], ...]
    sweep_batch: int
    sweep_channels: int
    batch: int
    train_batch: int
    kernel_sizes: tuple[int, ...] = (7, 13, 31, 51, 75, 101, 151)
    sizes: tuple[int, ...] = (7, 14, 28, 56, 112)
    fixed_size: int = 56
    fixed_kernel: int = 51
    arch: str = 'tiny'
    image_size: int = 224
    repeats: int = 5
    limit: float = 2.0
    op_limit: float = 20.0
    net_limit: float = 30.0
    command: str = ''
    progress: Callable[[str], None] = field(default=lambda line: None)


def default_plan(device: torch.device, quick: bool = False, **changes: Any) -> Plan:
    """Minutes on two CPU cores; on a GPU the sizes at which it is full. ``quick``: few points, few samples."""
    options: dict[str, Any]
    if device.type == 'cuda':
        ops = [
            (64, 46, 56, 51, False),
            (64, 46, 56, 51, True),
            (8, 62, 96, 101, False),
            (8, 62, 96, 101, True),
            (64, 46, 56, 101, False),
            (64, 46, 56, 151, False),
            (64, 93, 28, 49, False),
            (64, 187, 14, 47, False),
        ]
        options = {'dtype': torch.bfloat16, 'sweep_batch': 64, 'sweep_channels': 46, 'batch': 128, 'train_batch': 128}
    else:
        ops = [
            (8, 36, 56, 51, False),
            (8, 36, 56, 51, True),
            (8, 36, 56, 101, False),
            (4, 93, 28, 49, False),
            (4, 187, 14, 47, False),
        ]
        options = {'dtype': torch.float32, 'sweep_batch': 8, 'sweep_channels': 36, 'batch': 4, 'train_batch': 2}
    options['ops'] = tuple(ops)
    if quick:
        options |= {'ops': tuple(ops[:2]), 'kernel_sizes': (7, 51, 101), 'sizes': (14, 56), 'repeats': 3}
    return Plan(device=device, **(options | changes))


def op_files(plan: Plan) -> Files:
    """A table for each of the plan's convolutions, with every variant."""
    text = [_head('One convolution', plan)]
    for batch, channels, size, kernel_size, backward in plan.ops:
        what = 'forward and the gradients of image and weight' if backward else 'forward'
        title = f'{batch} x {channels} x {size} x {size}, K = {kernel_size}, {what}'
        plan.progress(title)
        result = benchmark_op(
            kernel_size=kernel_size,
            central_size=central_size(kernel_size),
            channels=channels,
            size=(size, size),
            batch=batch,
            dtype=plan.dtype,
            device=plan.device,
            backward=backward,
            repeats=plan.repeats,
            limit=plan.op_limit,
        )
        text.append(f'## {title}\n\n{op_table(result)}')
    return {f'{plan.device.type}_op.md': '\n\n'.join(text) + '\n'}


def sweep_files(plan: Plan) -> Files:
    """Curves and tables over the kernel size and over the map size, and every timing as CSV."""
    name = plan.device.type
    shape = f'{plan.sweep_batch} x {plan.sweep_channels}'
    kinds: dict[str, tuple[tuple[int, ...], Mapping[str, int], str]] = {
        'kernel_size': (
            plan.kernel_sizes,
            {'size': plan.fixed_size},
            f'Against the kernel size, {shape} x {plan.fixed_size} x {plan.fixed_size}',
        ),
        'size': (plan.sizes, {'kernel_size': plan.fixed_kernel}, f'Against the map, {shape}, K = {plan.fixed_kernel}'),
    }
    files: Files = {}
    text = [
        _head('Curves', plan),
        'Medians in milliseconds a call; the shades go from lowest to highest sample.',
    ]
    rows: list[dict[str, Any]] = []
    for axis, (values, fixed, title) in kinds.items():
        options = {
            'batch': plan.sweep_batch,
            'channels': plan.sweep_channels,
            'dtype': plan.dtype,
            'device': plan.device,
            'repeats': plan.repeats,
            **fixed,
        }
        runs = [
            sweep(axis, values, options | {'backward': backward}, limit=plan.limit, progress=plan.progress)
            for backward in (False, True)
        ]
        picture = f'{name}_{axis}.png'
        machine = describe_machine(plan.device)
        figure = draw_sweep(
            axis, runs[0], runs[1], f'{title}, {_short(plan.dtype)}, {machine.get("gpu", machine["processor"])}'
        )
        files[picture] = png_bytes(figure)
        text.append(f'## {title}\n\n![]({picture})')
        for backward, what in enumerate(('Forward:', 'Forward and the gradients of image and weight:')):
            rows.extend(sweep_rows(axis, bool(backward), runs[backward]))
            text.append(f'{what}\n\n{sweep_table(axis, runs[backward])}')
    files[f'{name}_sweeps.csv'] = csv_text(rows)
    files[f'{name}_sweeps.md'] = '\n\n'.join(text) + '\n'
    return files


def net_files(plan: Plan) -> Files:
    """Tables of evaluation and of a training step."""
    options: dict[str, Any] = {
        'arch': plan.arch,
        'size': plan.image_size,
        'dtype': plan.dtype,
        'device': plan.device,
        'limit': plan.net_limit,
    }
    shape = f'{plan.image_size} x {plan.image_size}, {_short(plan.dtype)}'
    plan.progress('evaluation of nets')
    evaluation: Measured = benchmark_model(**options, batch=plan.batch, repeats=plan.repeats)
    plan.progress('training of nets')
    training: Measured = benchmark_train(**options, batch=plan.train_batch, repeats=min(3, plan.repeats))
    text = [
        _head('Nets', plan),
        f'## Evaluation, PeLK-{plan.arch} deployed, batch {plan.batch}, {shape}\n\n{net_table(evaluation, plan.batch)}',
        f'## A training step, {plan.arch}, batch {plan.train_batch}, {shape}\n\n'
        f'{net_table(training, plan.train_batch)}',
    ]
    return {f'{plan.device.type}_nets.md': '\n\n'.join(text) + '\n'}


#: What a report consists of.
PARTS: dict[str, Callable[[Plan], Files]] = {'op': op_files, 'sweeps': sweep_files, 'nets': net_files}


def _head(title: str, plan: Plan) -> str:
    return (
        f'# {title}, on {plan.device.type}, {_short(plan.dtype)}\n\n'
        f'Written by this command; [what it measures](index.md).\n\n```bash\n{plan.command}\n```\n\n'
        f'{describe(describe_machine(plan.device))}.'
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix('torch.')
