"""Where the ``triton`` back-end can run, and its registration."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from functools import partial
from importlib import metadata
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ...utils.compat import OutOfMemoryError
from ..segments import Segments
from ..tracing import capturing, is_fixed, transform_refusal
from . import triton_launch
from .dense import depthwise_dense
from .table import Problem, register
from .triton_start import hardware_of, interpreting, planned
from .triton_tables import has_tables, tables_of
from .triton_tiles import precision

#: Bounds the registers of a thread, and has the interpreter's and the compiler's forms that the kernels use.
LEAST_TRITON = 3
#: What it computes, and how far its trial may lie from float64, over the largest value. TF32 has ten bits.
DTYPES = {torch.float32: 5e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}
#: Products in bfloat16 and TF32 need tensor cores of this generation.
LEAST_CAPABILITY = (8, 0)
#: Maps (N, C, H, W) by rows, whole, and by bands, whole and not.
TRIALS = [(2, 1, 5, 8), (min(triton_launch.FEWEST_IMAGES.values()), 1, 2, 4), (1, 1, 24, 40), (1, 1, 24, 72)]
#: Seconds until a trial that broke off is made again, doubled each time up to 64 times as many.
RETRY_AFTER = 10.0
IN_CAPTURE = 'and a graph is being captured, in which nothing can be tried: make the same call once before'


#: What was tried on a device, and what it has shown for good: a reason to refuse, or None.
_verdicts: dict[tuple[Hashable, ...], str | None] = {}
#: What broke off, for a reason that may pass (a full disk, a busy driver): when, how often, and why.
_failures: dict[tuple[Hashable, ...], tuple[float, int, str]] = {}


def refusal(problem: Problem) -> str | None:
    """Why the back-end cannot serve ``problem``, or None where it can."""
    return transform_refusal() or _input_refusal(problem.input) or _kernel_refusal(problem)


def _input_refusal(input: Tensor) -> str | None:
    if input.dtype not in DTYPES:
        return f'it computes float32, float16 and bfloat16, but the input is {input.dtype}'
    if input.device.type == 'cpu' and not interpreting():
        return 'it needs a CUDA tensor, but the input is on cpu (TRITON_INTERPRET=1 would interpret it there, slowly)'
    if input.device.type not in ('cpu', 'cuda'):
        return f'it needs a CUDA tensor, but the input is on {input.device}'
    return installation_refusal(input.device.type, input.device.index, input.dtype)


def installation_refusal(kind: str, index: int | None, dtype: torch.dtype) -> str | None:
    """Why Triton does not work for a dtype on a device, whatever the input, or None where it does."""
    device = torch.device(kind) if index is None else torch.device(kind, index)
    return settled((device, dtype), partial(_try, device, dtype))


def _kernel_refusal(problem: Problem) -> str | None:
    input = problem.input
    # a graph for every size is compiled as it runs
    if input.device.type != 'cuda' or not all(map(is_fixed, input.shape)):
        return None
    place, segments = (input.device.index, input.dtype, tuple(input.shape)), (problem.rows, problem.columns)
    return compile_refusal(*place, *segments, problem.has_bias, problem.needs_grad)


def compile_refusal(
    index: int | None,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    rows: Segments,
    columns: Segments,
    has_bias: bool,
    needs_grad: bool,
) -> str | None:
    """Why kernels for an input (N, C, H, W) cannot be had on a CUDA device, or None once they are compiled.

    Those of the backward pass too: there another back-end could no longer take over.
    """
    call = dtype, shape, rows, columns, has_bias, needs_grad
    device = torch.device('cuda' if index is None else f'cuda:{index}')
    key = (device, *call, precision(dtype))
    if capturing() and not has_tables(rows, columns, device):
        return f'its tables of this kernel are not on the device yet, {IN_CAPTURE}'
    return settled(key, partial(_compile, device, *call))


# what torch.compiler.assume_constant_result sets; calling that would import torch._dynamo with this package
installation_refusal._dynamo_marked_constant = True  # type: ignore[attr-defined]
compile_refusal._dynamo_marked_constant = True  # type: ignore[attr-defined]


def settled(key: tuple[Hashable, ...], attempt: Callable[[], str | None]) -> str | None:
    """What ``attempt`` has shown for ``key``, once and for good; where it breaks off, it is made again later."""
    if key in _verdicts:
        return _verdicts[key]
    if capturing():  # an attempt would break the capture, and fail
        return f'it has not been tried yet, {IN_CAPTURE}'
    when, times, reason = _failures.get(key, (0.0, 0, ''))
    if times and time.monotonic() - when < RETRY_AFTER * 2 ** min(times - 1, 6):
        return reason
    try:
        # hooks of its own keep what a trial saves from those of the call around it, a checkpoint's for one
        with saved_tensors_hooks(_same, _same):
            _verdicts[key] = attempt()
    except OutOfMemoryError:
        raise
    except Exception as error:  # whatever breaks in Triton, its compiler or the driver: other back-ends serve the call
        text = str(error).strip() or type(error).__name__
        _failures[key] = time.monotonic(), times + 1, f'Triton failed on a trial: {text.splitlines()[0]}'
        return _failures[key][2]
    return _verdicts[key]


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _compile(
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    rows: Segments,
    columns: Segments,
    has_bias: bool,
    needs_grad: bool,
) -> None:
    """Compile what a call will launch, so that what fails does so before the call."""
    meta = torch.device('meta')
    x = torch.empty(shape, dtype=dtype, device=meta)
    weight = torch.empty(shape[1], 1, len(rows), len(columns), dtype=dtype, device=meta)
    bias = torch.empty(shape[1:], dtype=dtype, device=meta) if has_bias else None
    tables = tables_of(rows, columns, meta)
    with planned(hardware_of(device)) as launches:
        triton_launch.forward(x, weight, rows, columns, bias, tables)
        if needs_grad:
            triton_launch.backward(x, x, weight, rows, columns, True, True, tables)
    with torch.cuda.device(device):
        for launch in launches:
            launch.compile()


def _try(device: torch.device, dtype: torch.dtype) -> str | None:
    """Run every kernel once on a small problem and compare: what is missing or broken shows only when they run."""
    if find_spec('triton') is None:
        return 'triton is not installed'
    found = metadata.version('triton')
    if int(found.split('.')[0]) < LEAST_TRITON:
        return f'it needs Triton {LEAST_TRITON}.0 or newer, which comes with torch 2.4, but found Triton {found}'
    if device.type == 'cuda' and torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        name, least = torch.cuda.get_device_name(device), '.'.join(map(str, LEAST_CAPABILITY))
        return f'it needs compute capability {least}, but {name} has less'
    with torch.inference_mode(False):
        wrong = max(_error(shape, device, dtype) for shape in TRIALS)
    return None if wrong <= DTYPES[dtype] else f'its trial is wrong by {wrong:.0e} of the largest value'


def _error(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> float:
    """Largest error of output and gradients over the largest value, against float64; NaN counts as infinite."""
    segments = (2, 1, 2)
    generator = torch.Generator().manual_seed(0)
    input, weight, grad = (
        torch.randn(size, generator=generator).to(device, dtype) for size in (shape, (1, 1, 3, 3), shape)
    )
    tables = tables_of(segments, segments, device)
    actual = (
        triton_launch.forward(input, weight, segments, segments, None, tables),
        *triton_launch.backward(grad, input, weight, segments, segments, True, True, tables),
    )
    with torch.enable_grad():
        leaves = input.double().requires_grad_(), weight.double().requires_grad_()
        output = depthwise_dense(*leaves, segments, segments, None)
        expected = (output, *torch.autograd.grad(output, leaves, grad.double()))
    errors = [
        float((ours.double() - exact.detach()).abs().max() / exact.detach().abs().max())
        for ours, exact in zip(actual, expected, strict=True)
        if ours is not None
    ]
    return max(error if error == error else float('inf') for error in errors)


register('triton', triton_launch.forward, triton_launch.backward, refusal, tables_of)
