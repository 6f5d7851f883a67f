"""Depthwise convolutions within windows, as one matrix product a channel: WBMM's operator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..utils.checks import check_int
from .arguments import autocast, check_tensors
from .observe import reporting


def window_conv2d(input: Tensor, weight: Tensor, window_size: int, bias: Tensor | None = None) -> Tensor:
    """Depthwise cross-correlation of each window of the map by itself, with zeros around the window.

    Windows are contiguous and start at the top left corner; those that the map does not fill hold zeros at their bottom
    and right. A kernel of 2 w - 1 taps a side joins every two pixels of a window. Computed as a product with a matrix
    of w^2 x w^2 for each channel. Source: Song et al., WBMM, ICML 2026 (arXiv 2607.02097).

    Args:
        input: (N, C, H, W), C, H, W >= 1; float32, float64, float16 or bfloat16.
        weight: (C, 1, 2 w - 1, 2 w - 1); dtype and device of ``input``.
        window_size: w, at least 1.
        bias: (C,) or None.

    Returns:
        (N, C, H, W), dtype of ``input`` (of autocast where that is active).

    Raises:
        TypeError, ValueError: As for :func:`depthwise_conv2d`; or a weight of another shape.
    """
    check_int('window_size', window_size, 1)
    input, cast_weight, bias = autocast(input, weight, bias)
    check_tensors(input, cast_weight, bias)
    side = 2 * window_size - 1
    if cast_weight.shape[1:] != (1, side, side) or (bias is not None and bias.ndim != 1):
        raise ValueError(
            f'weight must have shape (C, 1, {side}, {side}) for window_size={window_size}, and bias (C,), but got '
            f'{tuple(weight.shape)} and {None if bias is None else tuple(bias.shape)}'
        )
    with reporting('window_conv2d', input.shape, weight, (window_size, window_size)):
        return _product(input, _matrix(cast_weight, window_size), window_size, bias)


def _matrix(weight: Tensor, window_size: int) -> Tensor:
    """For each channel what pixel p of a window (row) gives to pixel q (column), (C, w^2, w^2)."""
    places = torch.arange(window_size, device=weight.device)
    steps = places[:, None] - places + window_size - 1  # from q to p along one side
    rows = weight.squeeze(1)[:, steps]  # (C, p row, q row, 2 w - 1)
    return rows[..., steps].permute(0, 1, 3, 2, 4).reshape(weight.shape[0], window_size**2, window_size**2)


def _product(input: Tensor, matrix: Tensor, window_size: int, bias: Tensor | None) -> Tensor:
    count, channels, height, width = input.shape
    down, right = -(-height // window_size), -(-width // window_size)
    padded = F.pad(input, (0, right * window_size - width, 0, down * window_size - height))
    windows = padded.reshape(count, channels, down, window_size, right, window_size).permute(1, 0, 2, 4, 3, 5)
    windows = windows.reshape(channels, count * down * right, window_size**2)
    mixed = windows @ matrix if bias is None else torch.baddbmm(bias[:, None, None], windows, matrix)
    mixed = mixed.view(channels, count, down, right, window_size, window_size).permute(1, 0, 2, 4, 3, 5)
    return mixed.reshape(count, channels, down * window_size, right * window_size)[..., :height, :width]
