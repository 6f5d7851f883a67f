"""One peripheral convolution on every back-end, beside stock convolutions, public rivals and a copy."""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor

from ...ops import SharingGrid
from ..harness import GateError, Measured, Variant, above, check_run, gate, measure, reason
from ..machine import benchmark_settings, cache_bytes, check_device
from .case import Case, draw_case, reference
from .variants import FLOOR, Candidate, build_candidate, build_copy, op_variants

#: Largest max|error| / max|reference| against float64 with which a back-end is timed; stock ones may err 10 times more.
ERROR_BARS = {torch.float32: 2e-6, torch.float64: 1e-12, torch.float16: 2e-3, torch.bfloat16: 2e-2}
TF32_BAR = 2e-3


def benchmark_op(
    *,
    kernel_size: int = 51,
    central_size: int = 5,
    channels: int = 36,
    size: tuple[int, int] = (56, 56),
    batch: int = 8,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = 'cpu',
    backward: bool = False,
    repeats: int = 9,
    hot: bool = False,
    tf32: bool = False,
    limit: float | None = None,
    variants: Collection[str] | None = None,
) -> Measured:
    """Time one peripheral convolution, without bias.

    ``stock`` is ``F.conv2d`` on the expanded kernel and contiguous images, ``stock nhwc`` the same in channels-last
    layout, ``auto`` the automatic choice of back-end; then every back-end by its name, stock 7x7 depthwise convolutions
    in both layouts, what is importable of :mod:`.public_rivals`, and ``copy``, a device copy of the same bytes: the
    output, with ``backward`` the input's gradient too.

    The random numbers come from a generator of its own. The kernels stay in cache, the images do not: see ``hot``.

    Args:
        kernel_size, central_size: Of the exponential grid.
        channels, size, batch: The images are (batch, channels, *size).
        dtype: Of all tensors.
        device: 'cpu' or 'cuda'.
        backward: Forward and the gradients of image and weight.
        repeats: Samples of each variant.
        hot: Read the same image each time, so that it may stay in cache.
        tf32: Let CUDA round float32 to TF32.
        limit: Seconds a call above which a variant is skipped.
        variants: Names from :func:`op_variants`; all by default.

    Raises:
        GateError: The automatic choice or a back-end is further from float64 than ``ERROR_BARS`` allows. A stock
            convolution or a rival that is wrong (by more than ten times that) is skipped with its error.
        ValueError: An argument is out of its range.
    """
    names = op_variants() if variants is None else tuple(variants)
    unknown = [name for name in names if name not in op_variants()]
    if unknown or not names:
        raise ValueError(f'variants must be some of {", ".join(op_variants())}, but got {", ".join(names) or "none"}')
    for name, value in {'channels': channels, 'batch': batch, 'height': size[0], 'width': size[1]}.items():
        if value < 1:
            raise ValueError(f'{name} must be at least 1, but got {value}')
    if dtype not in ERROR_BARS:
        raise ValueError(f'dtype must be one of {", ".join(map(str, ERROR_BARS))}, but got {dtype}')
    check_run(repeats, limit)
    device = check_device(device)
    grid = SharingGrid.exponential(kernel_size, central_size)
    bar = TF32_BAR if tf32 and device.type == 'cuda' and dtype == torch.float32 else ERROR_BARS[dtype]
    with benchmark_settings(device, tf32), torch.set_grad_enabled(backward):
        cache = 0 if hot else cache_bytes(device)
        case = draw_case((batch, channels, *size), grid, dtype, device, cache, bar, backward)
        exact = reference(case)
        ready: list[Variant] = []
        skipped: dict[str, str] = {}
        for name in names:
            ours = False
            try:
                if name == FLOOR:
                    ready.append(Variant(FLOOR, build_copy(case)))
                    continue
                candidate = build_candidate(name, case)
                ours = candidate.ours
                if limit is not None and _hopeless(candidate, case, limit):
                    skipped[name] = above(limit)
                    continue
                error = None if candidate.bar is None else _check(name, candidate, case, exact)
                ready.append(Variant(name, partial(candidate.next, backward), error))
            except Exception as error:  # a back-end that refuses, a rival that is not there, too little memory
                if ours and isinstance(error, GateError):
                    raise
                skipped[name] = reason(error)
        result = measure(ready, device=device, repeats=repeats, limit=limit)
    result.skipped = skipped | result.skipped
    return result


def _hopeless(candidate: Candidate, case: Case, limit: float) -> bool:
    """Whether one image alone takes so long that the batch is far above ``limit``: it is not waited for."""
    image = candidate.images.next()
    first_image = image.detach()[:1].requires_grad_(case.backward)
    cotangent = candidate.cotangents.next()[:1] if case.backward else None
    # Images run in turn on a CPU, side by side on a GPU, where the first call may also compile: only the second counts.
    images, calls = (1.0, 2) if image.is_cuda else (max(1.0, len(image) / 2), 1)
    seconds = 0.0
    for _ in range(calls):
        begin = time.perf_counter()
        candidate(first_image, cotangent)
        if image.is_cuda:
            torch.cuda.synchronize(image.device)
        seconds = time.perf_counter() - begin
    return images * seconds > limit


def _check(name: str, candidate: Candidate, case: Case, exact: tuple[Tensor, ...]) -> float:
    """The error of the output; gates the gradients too, under a cotangent that is 0 for the images not seen."""
    assert candidate.bar is not None
    cotangent = None
    if case.backward:
        cotangent = candidate.cotangents.next().clone()
        cotangent[1:-1] = 0
    out, *gradients = candidate(candidate.images.next(), cotangent)
    error = gate(f'{name} K={case.grid.kernel_size}', case.sample(out), exact[0], candidate.bar)
    if gradients:
        of_image, of_weight = gradients
        if of_weight.ndim == 4:  # of the expanded kernel
            of_weight = case.grid.pool(of_weight.double())
        gate(f'the gradient of input by {name}', case.sample(of_image), exact[1], 10 * case.bar)
        gate(f'the gradient of weight by {name}', of_weight[case.seen], exact[2], 10 * case.bar)
    return error
