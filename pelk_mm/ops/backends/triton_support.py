"""Where the ``triton`` back-end can run, and its registration."""

from __future__ import annotations

import time
from importlib.util import find_spec

import torch
from torch import Tensor

from ..tracing import capturing, compiling, transform_refusal
from . import triton_launch, triton_tables
from .dense import depthwise_dense
from .table import Problem, register
from .triton_start import interpreting

#: What it computes, and how far its trial may lie from float64, over the largest value. TF32 has ten bits.
DTYPES = {torch.float32: 5e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}
#: Products in bfloat16 and TF32 need tensor cores of this generation.
LEAST_CAPABILITY = (8, 0)
#: Seconds until a trial that broke off is made again, doubled each time up to 64 times as many.
RETRY_AFTER = 10.0


def refusal(problem: Problem) -> str | None:
    """Why the back-end cannot serve ``problem``, or None where it can."""
    return transform_refusal() or _input_refusal(problem.input) or _capture_refusal(problem)


def _capture_refusal(problem: Problem) -> str | None:
    device = problem.input.device
    if device.type != 'cuda' or compiling() or not capturing():
        return None
    if triton_tables.has_tables(problem.rows, problem.columns, device):
        return None
    return 'a graph is being captured, and its tables for this kernel are not on the device yet: call it once before'


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
    place = kind, index, dtype
    if place not in _verdicts:
        reason, lasting = _try(*place)
        if not lasting:
            return reason
        _verdicts[place] = reason
    return _verdicts[place]


# what torch.compiler.assume_constant_result sets; calling that would import torch._dynamo with this package
installation_refusal._dynamo_marked_constant = True  # type: ignore[attr-defined]

#: What trials on a device and dtype have shown for good.
_verdicts: dict[tuple[str, int | None, torch.dtype], str | None] = {}
#: Trials that broke off, for a reason that may pass (a full disk, a busy driver): when, how often, and why.
_failures: dict[tuple[str, int | None, torch.dtype], tuple[float, int, str]] = {}


def _try(kind: str, index: int | None, dtype: torch.dtype) -> tuple[str | None, bool]:
    """Run every kernel once on a small problem and compare: what is missing or broken shows only when they run.

    Returns:
        Why the back-end is refused, or None; and whether that holds for good.
    """
    if find_spec('triton') is None:
        return 'triton is not installed', True
    device = torch.device(kind) if index is None else torch.device(kind, index)
    if kind == 'cuda':
        if torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
            name, least = torch.cuda.get_device_name(device), '.'.join(map(str, LEAST_CAPABILITY))
            return f'it needs compute capability {least}, but {name} has less', True
        if capturing():  # a trial would break the capture, and fail
            return 'it is tried when it is first called, but not in a graph capture: call it once before', False
    place = kind, index, dtype
    when, times, reason = _failures.get(place, (0.0, 0, ''))
    if times and time.monotonic() - when < RETRY_AFTER * 2 ** min(times - 1, 6):
        return reason, False
    try:
        with torch.inference_mode(False):
            images = min(triton_launch.FEWEST_IMAGES.values())
            wrong = max(_error((2, 1, 5, 8), device, dtype), _error((images, 1, 2, 4), device, dtype))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever breaks in Triton, its compiler or the driver: other back-ends serve the call
        text = str(error).strip() or type(error).__name__
        _failures[place] = time.monotonic(), times + 1, f'Triton failed on a trial: {text.splitlines()[0]}'
        return _failures[place][2], False
    return None if wrong <= DTYPES[dtype] else f'its trial is wrong by {wrong:.0e} of the largest value', True


def _error(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> float:
    """Largest error of output and gradients over the largest value, against float64; NaN counts as infinite."""
    segments = (2, 1, 2)
    generator = torch.Generator().manual_seed(0)
    input, weight, grad = (
        torch.randn(size, generator=generator).to(device, dtype) for size in (shape, (1, 1, 3, 3), shape)
    )
    tables = triton_tables.tables_of(segments, segments, device)
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


register('triton', triton_launch.forward, triton_launch.backward, refusal, triton_tables.tables_of)
