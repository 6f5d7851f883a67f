"""The predictions as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...ops.backends.triton_start import Hardware, Launch
from ...utils.markdown import markdown
from ..op.measure import benchmark_op
from ..tables import milliseconds, three_digits
from .clocks import (
    BARRIER_PAIR,
    CACHE_HIT,
    CLOCK,
    COPY_BYTES,
    ELEMENTWISE_BYTES,
    ISSUED,
    MULTIPROCESSORS,
    PRODUCTS,
    SHARED_BYTES,
    SHORTEST,
)
from .machine_code import machine_code
from .net import (
    BATCH,
    CACHE_BYTES,
    CONVNEXT,
    CONVNEXT_RANGE,
    CURRENT,
    LINEAR_FLOPS,
    SIDE,
    UNALIGNED,
    UNCOALESCED_BYTES,
    Layer,
    net_items,
    net_ratio,
)
from .ops import Case, Prediction, launches_of, predict_forward, predict_weight_gradient

#: By name: convolutions of PeLK-T's stages at batch 64, and the wide maps of detection and segmentation.
CASES = {
    'a': Case.of((64, 46, 56, 56), 51),
    'a_fp32': Case.of((64, 46, 56, 56), 51, dtype=torch.float32),
    'a_fp16': Case.of((64, 46, 56, 56), 51, dtype=torch.float16),
    'b': Case.of((8, 62, 96, 96), 101, 7),
    'c28': Case.of((64, 93, 28, 28), 49),
    'c14': Case.of((64, 187, 14, 14), 47),
    'c7': Case.of((64, 374, 7, 7), 13),
    'd': Case.of((2, 46, 200, 336), 51),
}
WHAT = {'forward': predict_forward, 'weight_gradient': predict_weight_gradient}
#: How far a predicted time of one convolution may be from a measured one; ratios of variants less.
RANGE = 0.75, 1.4
#: GPUs whose machine code is counted. Times are predicted for the second.
COUNTED = {80: Hardware((8, 0), 108), 90: Hardware((9, 0), MULTIPROCESSORS), 100: Hardware((10, 0), 148)}
#: Steps of the layer around the convolution, each with those before.
STEPS = {
    'as in ConvNeXt': Layer(),
    'and 5 x 5 through the same kernels': Layer(small_kernels=True),
    'and gamma in the weights': Layer(small_kernels=True, scaled_weights=True),
    'and layout kernels': Layer(small_kernels=True, scaled_weights=True, layout=True),
    'and padded linears': Layer(small_kernels=True, scaled_weights=True, layout=True, padded=True),
}
#: Classes of instructions, by the beginning of their names.
PATTERNS = {'barriers': 'BAR', 'loads': 'LDG', 'shared memory': 'LDS|STS|LDSM|STSM', 'products': r'\w*MMA'}
#: The aim, in copies.
GOAL = 3.0


def predictions() -> dict[str, tuple[Case, Prediction]]:
    """Every case, forward and weight gradient, by the name of both."""
    return {f'{name}_{what}': (case, function(case)) for name, case in CASES.items() for what, function in WHAT.items()}


def measure(device: torch.device) -> dict[str, float]:
    """Copies that the convolutions take on a GPU, by the name of the case."""
    copies = {}
    for name, case in CASES.items():
        n, channels, height, width = case.shape
        timed = benchmark_op(
            kernel_size=sum(case.sizes),
            central_size=case.sizes.count(1),
            channels=channels,
            size=(height, width),
            batch=n,
            dtype=case.dtype,
            device=device,
            variants=['triton', 'copy'],
        )
        ours, copy = timed.median('triton'), timed.median('copy')
        if ours is not None and copy is not None:
            copies[f'{name}_forward'] = ours / copy
    return copies


def as_json(
    found: Mapping[str, tuple[Case, Prediction]], measured: Mapping[str, float], versions: Mapping[str, Any]
) -> dict[str, Any]:
    """All figures, predicted for sm_90; ``copies`` is time over that of a device copy."""
    return {
        'predicted': True,
        'copies': {name: prediction.copies for name, (_, prediction) in found.items()},
        'net_ratio': {mode: net_ratio(mode) for mode in CONVNEXT},
        'ranges': {
            'copies': {name: [f * prediction.copies for f in RANGE] for name, (_, prediction) in found.items()},
            'net_ratio': {mode: list(_net_range(mode)) for mode in CONVNEXT},
        },
        'seconds': {name: prediction.seconds for name, (_, prediction) in found.items()},
        'binds': {name: prediction.ranked for name, (_, prediction) in found.items()},
        'assumptions': {
            'clock': CLOCK,
            'multiprocessors': MULTIPROCESSORS,
            'copy bytes a second': COPY_BYTES,
            'elementwise bytes a second': ELEMENTWISE_BYTES,
            'linear FLOP a second': LINEAR_FLOPS,
            'ConvNeXt-T 1.3x, seconds': CONVNEXT,
        },
        'measured copies': dict(measured),
        'versions': dict(versions),
    }


def op_table(found: Mapping[str, tuple[Case, Prediction]], measured: Mapping[str, float]) -> str:
    """A line for each case, with measured copies where there are any."""
    title = ['predicted for sm_90', 'input', 'dtype', 'us', 'copies', 'range', 'clocks a pixel', 'binds', 'then']
    rows = []
    for name, (case, prediction) in found.items():
        row = [f'predicted {name}', ' x '.join(map(str, case.shape)), str(case.dtype).removeprefix('torch.')]
        row += [three_digits(1e6 * prediction.seconds), three_digits(prediction.copies)]
        row += [' .. '.join(three_digits(factor * prediction.copies) for factor in RANGE)]
        row += [three_digits(prediction.clocks), *prediction.ranked[:2]]
        rows.append([*row, three_digits(measured[name]) if name in measured else '-'] if measured else row)
    return markdown([*title, 'measured copies'] if measured else title, rows)


def goal_table(found: Mapping[str, tuple[Case, Prediction]]) -> str:
    """By how much each resource would have to shrink for GOAL copies."""
    resources = sorted({resource for _, prediction in found.values() for resource in prediction.alone})
    rows = []
    for name, (case, prediction) in found.items():
        clocks = GOAL * case.copy_seconds * CLOCK * MULTIPROCESSORS / case.pixels
        asked = [prediction.alone[resource] / clocks for resource in resources]
        rows.append([f'predicted {name}', *(f'{value:.1f}' if value > 1 else 'fits' for value in asked)])
    return markdown([f'predicted, over {GOAL:.0f} copies', *resources], rows)


def net_tables() -> str:
    """PeLK-T item by item, and over ConvNeXt-T for each step of the layer."""
    steps = [
        [f'predicted, {name}', *(three_digits(net_ratio(mode, layer)) for mode in CONVNEXT)]
        for name, layer in STEPS.items()
    ]
    ranges = [' .. '.join(map(three_digits, _net_range(mode))) for mode in CONVNEXT]
    steps.append(['predicted, this version', *(three_digits(net_ratio(mode)) for mode in CONVNEXT)])
    steps.append(['predicted, range of this version', *ranges])
    items = {mode: net_items(mode) for mode in CONVNEXT}
    names = list(dict.fromkeys(name for mode in items.values() for name in mode))
    lines = [
        [f'predicted, {name}', *(milliseconds(items[mode][name]) if name in items[mode] else '-' for mode in CONVNEXT)]
        for name in names
    ]
    lines.append(['predicted, all', *(milliseconds(sum(items[mode].values())) for mode in CONVNEXT)])
    return '\n\n'.join([
        markdown(['predicted PeLK-T over ConvNeXt-T 1.3x', *CONVNEXT], steps),
        markdown([f'predicted ms, batch {BATCH}, {SIDE} px', *CONVNEXT], lines),
    ])  # fmt: skip


def code_table() -> str:
    """Loops of every kernel that the cases launch in bfloat16, for each GPU."""
    header = ['predicted from', 'sm', 'registers', 'programs', 'loop', 'instructions', *PATTERNS]
    rows = []
    for sm, hardware in COUNTED.items():
        for name, launch in _kernels(hardware).items():
            try:
                code = machine_code(launch, hardware.capability)
            except Exception as error:  # whatever Triton's compiler raises for a GPU that it does not know
                rows.append([name, str(sm), f'not compiled: {type(error).__name__}', *[''] * (len(header) - 3)])
                continue
            for loop in code.kernel.walk():
                condition = f'`{loop.condition}`' if loop.condition else '-'
                counts = [len(loop.own), *map(loop.count, PATTERNS.values())]
                rows.append([name, str(sm), str(code.registers), str(code.resident), condition, *map(str, counts)])
    return markdown(header, rows)


def _kernels(hardware: Hardware) -> dict[str, Launch]:
    found: dict[str, Launch] = {}
    for case in CASES.values():
        if case.dtype == torch.bfloat16:
            for gradient in (False, True):
                for launch in launches_of(case, gradient, hardware)[0]:
                    constants = [f'{launch.options[key]}' for key in ('BLOCK_N', 'UNIT') if key in launch.options]
                    whole = ' whole' if launch.options.get('WHOLE') else ''
                    found.setdefault(f'{launch.kernel.fn.__name__} {" ".join(constants)}{whole}'.strip(), launch)
    return found


def _net_range(mode: str) -> Iterator[float]:
    total = net_ratio(mode, CURRENT) * CONVNEXT[mode]
    return (total / seconds for seconds in reversed(CONVNEXT_RANGE[mode]))


def page(
    found: Mapping[str, tuple[Case, Prediction]], measured: Mapping[str, float], command: str, versions: str
) -> str:
    """``docs/benchmarks/predicted.md``."""
    proof = 'unless it says measured' if measured else '[what a GPU took](gpu.md) is another page'
    low, high = ([1e3 * CONVNEXT_RANGE[mode][end] for mode in CONVNEXT] for end in (0, 1))
    return f"""# Predicted times on an H100

Written by this command; [all benchmarks](index.md).

```bash
{command}
```

{versions}.

**Every figure of this page is predicted: {proof}.**

## Convolutions

A copy is a device copy of the input, the least that any kernel takes.
The range is {RANGE[0]} to {RANGE[1]} times what is predicted; ratios of two kernels are nearer.
`binds` is the resource that is asked most, `then` the one that would bind next.

{op_table(found, measured)}

## What {GOAL:.0f} copies would take

By how much each resource would have to be asked less, were it the only one.

{goal_table(found)}

## A whole net

{net_tables()}

## How it is predicted

The kernels of each call are compiled and disassembled. Loops of the machine code are matched to those of the source by
line numbers; how often each is passed follows from the shapes. A pass costs the largest of four:

- **issue**: warp instructions, {ISSUED} a clock;
- **waiting**: {CACHE_HIT} clocks for each round of loads, {BARRIER_PAIR} for each write to shared memory, barrier and
  read from there, and the products; all over the programs that a multiprocessor holds;
- **shared memory**: bytes of loads, stores and factors of products, {SHARED_BYTES} a clock;
- **tensor cores**: {PRODUCTS} products of half precision a clock.

Assumed are {MULTIPROCESSORS} multiprocessors at {CLOCK / 1e9:.3f} GHz, and device copies at {COPY_BYTES / 1e12:.1f}
TB/s. Every launch of a call is summed; none takes less than {SHORTEST * 1e6:.0f} us.

The net adds bytes and products: elementwise kernels at {ELEMENTWISE_BYTES / 1e12:.1f} TB/s, linears at
{LINEAR_FLOPS / 1e12:.0f} TFLOP/s and {UNALIGNED} of that where rows are not multiples of 8 bytes. An element that one
side moves on its own takes {UNCOALESCED_BYTES} bytes of the second cache, at {CACHE_BYTES / 1e12:.0f} TB/s.

ConvNeXt-T of the same widths is assumed, not predicted, from published throughputs on an A100:
{1e3 * CONVNEXT['evaluation']:.1f} ms in evaluation, {low[0]:.0f} to {high[0]:.0f};
{1e3 * CONVNEXT['training']:.0f} ms in training, {low[1]:.0f} to {high[1]:.0f}.
That is the largest unknown of the ratio. Padded linears would help it as much.

The range of a net holds that of ConvNeXt's time only. Not counted are gradients of biases, the products that padding
adds, and the wait of few warps for their own results: a training step, and weight gradients of maps of 28 pixels and
fewer, come out too short.

No constant was fitted to a result. For earlier kernels that were counted by hand the model gives the same copies within
15 %, which `tests/benchmarks/predict/` checks.

## Machine code

Instructions of one pass of a loop, without inner loops; `-` is the kernel outside its loops.
`programs` is how many a multiprocessor holds.

{code_table()}
"""
