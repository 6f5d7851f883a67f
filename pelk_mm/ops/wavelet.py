"""Depthwise convolutions in the wavelet domain: WTConv's operator, with Haar transforms by slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .depthwise import depthwise_conv2d
from .tracing import is_watched

#: Sub-bands of a Haar transform: the mean, top minus bottom, left minus right, and the diagonal.
BANDS = 4


def wavelet_conv2d(
    input: Tensor,
    weight: Tensor,
    level_weights: Sequence[Tensor],
    bias: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """A depthwise convolution, plus one of the Haar coefficients of each level, transformed back (WTConv).

    With W the Haar transform, a its mean band and z of the level behind the last one zero, level l = 1, 2, ... is::

        z_l = inverse W(level_weights[l] * W x_l, plus z_(l + 1) in band a),   x_(l + 1) = the unfiltered a,   x_1 = x
        y = weight * x + bias + z_1

    A kernel of side k at level l sees k 2**l pixels. A map of odd side is padded by a row or column of zeros at its
    bottom or right, and the result is cropped. Source: Finder et al., ECCV 2024 (arXiv 2407.05848), section 3.

    Args:
        input: (N, C, H, W), as for :func:`depthwise_conv2d`.
        weight: (C, 1, k, k), k odd; its learnt scale, if any, is to be multiplied into it.
        level_weights: For each level (4 C, 1, k, k), k odd: channel ``4 c + band`` filters that band of channel c, the
            bands in the order of :func:`haar_transform`. Scales as for ``weight``. None of them for no level.
        bias: (C,) or None.
        backend: As for :func:`depthwise_conv2d`.

    Returns:
        (N, C, H, W), dtype of ``input`` (of autocast where that is active).

    Raises:
        TypeError, ValueError, RuntimeError: As :func:`depthwise_conv2d`; or a level's weight has not 4 C channels.
    """
    output = depthwise_conv2d(input, weight, bias, backend=backend)
    sizes, filtered = [], []
    mean = input.to(output.dtype)
    for level, kernel in enumerate(level_weights, start=1):
        if not isinstance(kernel, Tensor) or kernel.ndim != 4 or kernel.shape[0] != BANDS * input.shape[1]:
            got = tuple(kernel.shape) if isinstance(kernel, Tensor) else type(kernel).__name__
            raise ValueError(
                f'level_weights must have shape ({BANDS * input.shape[1]}, 1, k, k) for {input.shape[1]} channels of '
                f'input, but that of level {level} is {got}'
            )
        sizes.append(mean.shape[2:])
        bands, mean = _transform(mean)
        filtered.append(depthwise_conv2d(bands.flatten(1, 2), kernel, backend=backend).unflatten(1, (-1, BANDS)))
    below: Tensor | None = None
    for bands, size in zip(reversed(filtered), reversed(sizes), strict=True):
        below = _join_bands(bands, below)[..., : size[0], : size[1]]
        if is_watched(below):  # whether it is contiguous would be one graph's question
            below = below.clone(memory_format=torch.contiguous_format)
    return output if below is None else output.add_(below)


def haar_transform(x: Tensor) -> Tensor:
    """The orthonormal Haar coefficients of each 2 x 2 cell.

    With p, q above r, s in a cell, they are ``(p + q + r + s) / 2``, ``(p + q - r - s) / 2``, ``(p - q + r - s) / 2``
    and ``(p - q - r + s) / 2``.

    Args:
        x: (N, C, H, W); odd sides are padded by zeros at the bottom and right.

    Returns:
        (N, C, 4, ceil(H / 2), ceil(W / 2)).
    """
    return _transform(x)[0]


def inverse_haar_transform(bands: Tensor) -> Tensor:
    """(N, C, 4, h, w) coefficients of :func:`haar_transform` to (N, C, 2 h, 2 w)."""
    return _join_bands(bands, None)


def _transform(x: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients and, by itself, the mean band."""
    height, width = x.shape[2:]
    if is_watched(x):  # one graph for odd and even sides
        bands = _split(F.pad(x, (0, 1, 0, 1)), (height + 1) // 2, (width + 1) // 2)
        return bands, bands[:, :, 0]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    return _Split.apply(x)


def _join_bands(bands: Tensor, mean: Tensor | None) -> Tensor:
    """The inverse transform; ``mean``, (N, C, h, w) or None, is added to the first band."""
    watched = is_watched(bands) or (mean is not None and is_watched(mean))
    return _join(bands, mean) if watched else _Join.apply(bands, mean)


# Each is the other's backward pass. The two that torch sees into copy more, and are for graphs and transforms.
def _split(x: Tensor, height: int, width: int) -> Tensor:
    bands = [part + sign * other for part, sign, other in _halves(x, height, width)]
    return torch.stack(bands, dim=2)


def _join(bands: Tensor, mean: Tensor | None) -> Tensor:
    pixels = torch.stack([part + sign * other for part, sign, other in _quarters(bands, mean)], dim=2)
    count, channels, _, height, width = pixels.shape
    cells = pixels.reshape(count, channels, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
    return cells.reshape(count, channels, 2 * height, 2 * width)


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        count, channels, height, width = x.shape
        bands = x.new_empty(count, channels, BANDS, height // 2, width // 2)
        for band, (part, sign, other) in enumerate(_halves(x, height // 2, width // 2)):
            torch.add(part, other, alpha=sign, out=bands[:, :, band])
        return bands, bands[:, :, 0].contiguous()  # an output of its own, whose gradient needs no map of zeros

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_mean: Tensor | None) -> Tensor | None:
        if grad is None:
            if grad_mean is None:
                return None
            grad = grad_mean.new_zeros(*grad_mean.shape[:2], BANDS, *grad_mean.shape[2:])
        return _Join.apply(grad, grad_mean)


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bands: Tensor, mean: Tensor | None) -> Tensor:
        ctx.has_mean = mean is not None
        count, channels, _, height, width = bands.shape
        cells = bands.new_empty(count, channels, height, 2, width, 2)
        for place, (part, sign, other) in enumerate(_quarters(bands, mean)):
            torch.add(part, other, alpha=sign, out=cells[:, :, :, place // 2, :, place % 2])
        return cells.view(count, channels, 2 * height, 2 * width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        bands, mean = _Split.apply(grad)
        return bands, mean if ctx.has_mean else None


def _halves(x: Tensor, height: int, width: int) -> list[tuple[Tensor, int, Tensor]]:
    """For each band of ``height`` x ``width`` cells what is added, with which sign: (part, sign, other)."""
    above, below = x[..., 0::2, :][..., :height, :], x[..., 1::2, :][..., :height, :]
    sums = [(above + below).mul_(0.5), (above - below).mul_(0.5)]
    pairs = [(part[..., 0::2][..., :width], part[..., 1::2][..., :width]) for part in sums]
    return [(left, sign, right) for sign in (1, -1) for left, right in pairs]


def _quarters(bands: Tensor, mean: Tensor | None) -> list[tuple[Tensor, int, Tensor]]:
    """For each pixel of a cell, row by row, what is added, with which sign: (part, sign, other)."""
    first, rows, columns, diagonal = bands.unbind(2)
    if mean is not None:
        first = first + mean
    sums = [
        torch.add(part, other, alpha=sign).mul_(0.5)
        for sign in (1, -1)
        for part, other in ((first, rows), (columns, diagonal))
    ]
    return [(part, sign, other) for part, other in (sums[:2], sums[2:]) for sign in (1, -1)]
