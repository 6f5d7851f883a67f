"""The ``fft`` back-end: large depthwise convolutions as products of spectra, in plain torch on any device.

A circular convolution of period n agrees with the zero-padded one on H rows when n >= H + r, r the kernel's reach
beyond a pixel; taps that reach beyond the map meet only padding and are cropped first, so r <= H - 1. Work goes by
channel chunks: the workspace is bounded whatever the map, and on a CPU a chunk stays in cache between transforms.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .segments import Reachable, Segments, expand, pool, reachable

# A few padded planes of this many bytes are alive at once. CPU: within the last-level cache; CUDA: fills a GPU.
CHUNK_BYTES = {'cpu': 4 << 20, 'cuda': 64 << 20}


class _Plan(NamedTuple):
    """What of the kernel reaches across the map, and the transform length of each axis."""

    rows: Reachable
    columns: Reachable
    period: tuple[int, int]


def forward(input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None) -> Tensor:
    """Depthwise cross-correlation by FFT, "same" zero padding, stride 1.

    Computes in float32 (float64 for float64 inputs) and rounds once to the input's dtype.

    Args:
        input: (N, C, H, W).
        weight: (C, 1, len(rows), len(columns)).
        rows, columns: Segments of the kernel's axes, of odd sums.
        bias: (C,), or a map (C, H, W) added to every image, or None.
    """
    plan = _plan(input, rows, columns)
    output = torch.empty_like(input)
    if bias is not None and bias.ndim == 1:
        bias = bias[:, None, None]
    for chunk in _chunks(input, plan):
        spectrum = _transform(input[:, chunk], plan)
        spectrum *= _kernel_spectrum(weight[chunk], plan, input)
        plane = _inverse(spectrum, plan, input)
        if bias is not None:
            plane += bias[chunk]
        output[:, chunk] = plane
    return output


def backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    rows: Segments,
    columns: Segments,
    needs_input: bool,
    needs_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`forward` by ``input`` and ``weight``, None where not needed."""
    plan = _plan(input, rows, columns)
    grad_input = torch.empty_like(input) if needs_input else None
    grad_weight = torch.zeros_like(weight) if needs_weight else None
    for chunk in _chunks(input, plan):
        spectrum = _transform(grad[:, chunk], plan)
        if grad_weight is not None:
            correlation = (spectrum.conj() * _transform(input[:, chunk], plan)).sum(0)
            grad_weight[chunk, :, plan.rows.kept, plan.columns.kept] = _segment_sums(correlation, plan)
        if grad_input is not None:
            # the adjoint of a correlation is the convolution with the same kernel
            spectrum *= _kernel_spectrum(weight[chunk], plan, input).conj()
            grad_input[:, chunk] = _inverse(spectrum, plan, input)
    return grad_input, grad_weight


def _plan(input: Tensor, rows: Segments, columns: Segments) -> _Plan:
    height, width = input.shape[2:]
    row_axis, column_axis = reachable(rows, height), reachable(columns, width)
    period = fast_length(height + row_axis.radius), fast_length(width + column_axis.radius)
    return _Plan(row_axis, column_axis, period)


def _chunks(input: Tensor, plan: _Plan) -> list[slice]:
    """Channel slices whose padded planes fit the budget of the device."""
    channels = input.shape[1]
    if input.numel() == 0:
        return []
    plane = input.shape[0] * plan.period[0] * plan.period[1] * _compute_dtype(input).itemsize
    step = max(1, CHUNK_BYTES.get(input.device.type, CHUNK_BYTES['cuda']) // plane)
    return [slice(start, min(start + step, channels)) for start in range(0, channels, step)]


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


# Row and column transforms apart: the zero rows of the padding need no row transform, nor do the rows cut off again.


def _transform(planes: Tensor, plan: _Plan) -> Tensor:
    """(N, c, H, W) to its half spectrum (N, c, n, m // 2 + 1)."""
    rows = torch.fft.rfft(planes.to(_compute_dtype(planes)), n=plan.period[1], dim=-1)
    return torch.fft.fft(rows, n=plan.period[0], dim=-2)


def _inverse(spectrum: Tensor, plan: _Plan, input: Tensor) -> Tensor:
    """Half spectrum (N, c, n, m // 2 + 1) to the planes (N, c, H, W)."""
    rows = torch.fft.ifft(spectrum, dim=-2)[..., : input.shape[2], :]
    return torch.fft.irfft(rows, n=plan.period[1], dim=-1)[..., : input.shape[3]]


def _kernel_spectrum(weight: Tensor, plan: _Plan, input: Tensor) -> Tensor:
    """Conjugate half spectrum (c, n, m // 2 + 1) of the reachable kernels (c, 1, r, k), centred on the origin."""
    kept = weight[:, :, plan.rows.kept, plan.columns.kept].to(_compute_dtype(input))
    kernel = expand(kept, plan.rows.sizes, plan.columns.sizes).squeeze(1)
    n, m = plan.period
    placed = F.pad(kernel, (0, m - kernel.shape[2], 0, n - kernel.shape[1]))
    return torch.fft.rfft2(placed.roll((-plan.rows.radius, -plan.columns.radius), (1, 2))).conj()


def _segment_sums(correlation: Tensor, plan: _Plan) -> Tensor:
    """Half spectrum (c, n, m // 2 + 1) of a correlation to its sums over the segments (c, 1, r, k)."""
    reach = plan.rows.radius, plan.columns.radius
    lags = torch.fft.irfft2(correlation, s=plan.period).roll(reach, (1, 2))
    lags = lags[:, : 2 * reach[0] + 1, : 2 * reach[1] + 1]
    return pool(lags, plan.rows.sizes, plan.columns.sizes).unsqueeze(1)


@cache
def fast_length(minimum: int) -> int:
    """The smallest length >= ``minimum`` that FFTs are fast at: 2^a 3^b 5^c 7^d, even, past 16 a multiple of 4."""
    step = 1 if minimum <= 4 else 2 if minimum <= 16 else 4
    length = -(-minimum // step) * step
    while not _is_smooth(length):
        length += step
    return length


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1
