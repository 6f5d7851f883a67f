"""The ``fft`` back-end: large depthwise convolutions as products of spectra, in plain torch on any device.

A circular convolution of period n agrees with the zero-padded one on H rows when n >= H + r, r the kernel's reach
beyond a pixel; taps that reach beyond the map meet only padding and are cropped first, so r <= H - 1. Work goes by
channel chunks: the workspace is bounded whatever the map, and on a CPU a chunk stays in cache between transforms.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# A few padded planes of this many bytes are alive at once. CPU: within the last-level cache; CUDA: fills a GPU.
CHUNK_BYTES = {'cpu': 4 << 20, 'cuda': 64 << 20}


class _Plan(NamedTuple):
    """Cropped reach and transform length of each axis."""

    reach: tuple[int, int]
    period: tuple[int, int]


def depthwise_fft(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise cross-correlation by FFT, "same" zero padding, stride 1.

    Computes in float32 (float64 for float64 inputs) and rounds once to the input's dtype. Keeps only ``input`` and
    ``weight`` for the backward pass.

    Args:
        input: (N, C, H, W).
        weight: (C, 1, kh, kw), odd.
        bias: (C,) or None.
    """
    return _DepthwiseFFT.apply(input, weight, bias)


class _DepthwiseFFT(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        plan = _plan(input, weight)
        output = torch.empty_like(input)
        for chunk in _chunks(input, plan):
            spectrum = _transform(input[:, chunk], plan)
            spectrum *= _kernel_spectrum(weight[chunk], plan, input)
            plane = _inverse(spectrum, plan, input)
            if bias is not None:
                plane = plane + bias[chunk, None, None]
            output[:, chunk] = plane
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        plan = _plan(input, weight)
        grad_input = torch.empty_like(input) if needs_input else None
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        for chunk in _chunks(input, plan) if needs_input or needs_weight else ():
            spectrum = _transform(grad[:, chunk], plan)
            if grad_weight is not None:
                correlation = (spectrum.conj() * _transform(input[:, chunk], plan)).sum(0)
                grad_weight[chunk] = _taps(correlation, plan, weight)
            if grad_input is not None:
                # the adjoint of a correlation is the convolution with the same kernel
                spectrum *= _kernel_spectrum(weight[chunk], plan, input).conj()
                grad_input[:, chunk] = _inverse(spectrum, plan, input)
        grad_bias = None
        if needs_bias:
            grad_bias = grad.sum((0, 2, 3), dtype=_compute_dtype(grad)).to(grad.dtype)
        return grad_input, grad_weight, grad_bias


def _plan(input: Tensor, weight: Tensor) -> _Plan:
    size, kernel = input.shape[2:], weight.shape[2:]
    reach = (min(kernel[0] // 2, size[0] - 1), min(kernel[1] // 2, size[1] - 1))
    return _Plan(reach, (fast_length(size[0] + reach[0]), fast_length(size[1] + reach[1])))


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
    """Conjugate half spectrum (c, n, m // 2 + 1) of the cropped kernels (c, 1, kh, kw), centred on the origin."""
    (rh, rw), (n, m) = plan.reach, plan.period
    kh, kw = weight.shape[2:]
    crop = weight[:, 0, kh // 2 - rh : kh // 2 + rh + 1, kw // 2 - rw : kw // 2 + rw + 1]
    placed = F.pad(crop.to(_compute_dtype(input)), (0, m - crop.shape[2], 0, n - crop.shape[1])).roll(
        (-rh, -rw), (1, 2)
    )
    return torch.fft.rfft2(placed).conj()


def _taps(correlation: Tensor, plan: _Plan, weight: Tensor) -> Tensor:
    """Spectrum of the input-gradient correlation (c, n, m // 2 + 1) to the kernel's taps (c, 1, kh, kw)."""
    (rh, rw), (kh, kw) = plan.reach, weight.shape[2:]
    lags = torch.fft.irfft2(correlation, s=plan.period).roll((rh, rw), (1, 2))[:, : 2 * rh + 1, : 2 * rw + 1]
    return F.pad(lags, (kw // 2 - rw,) * 2 + (kh // 2 - rh,) * 2).unsqueeze(1)


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
