"""Neighbourhood attention's second half: each pixel's weighted sum of the pixels around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..utils.checks import check_odd
from .observe import reporting
from .tracing import is_watched

#: A matrix between all pixels of a map is built where it holds at most so many times the weights, or pixels.
DENSE_FACTOR = 4
SMALL_MAP = 256


def neighbourhood_gather(attention: Tensor, value: Tensor, kernel_size: int) -> Tensor:
    """Sum K x K values around each pixel with weights of its own; at the borders the window moves inwards.

    The window of row i starts at row clamp(i - floor(K / 2), 0, H - K), that of a column likewise, so that every pixel
    has K^2 neighbours and nothing is padded: ``na2d_av`` of NATTEN (Hassani et al., arXiv 2204.07143).

    Only the arguments are kept for the backward pass. Maps of few pixels become a product with a matrix between all
    pixels; others K products of bands, one for each row of the window.

    Args:
        attention: (N, G, H, W, K^2), neighbours row by row.
        value: (N, C, H, W) in G groups of C / G channels; dtype and device of ``attention``.
        kernel_size: K, odd, at most H and W.

    Returns:
        (N, C, H, W).

    Raises:
        TypeError, ValueError: An argument is out of its range, or shapes do not belong together.
    """
    check_odd('kernel_size', kernel_size)
    for name, tensor in {'attention': attention, 'value': value}.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f'{name} must be a floating-point tensor, but got {got}')
    if attention.dtype != value.dtype:
        raise TypeError(f'attention must have the dtype of value, {value.dtype}, but got {attention.dtype}')
    if (
        attention.ndim != 5
        or value.ndim != 4
        or attention.shape[4] != kernel_size**2
        or attention.shape[::2][:2] != (value.shape[0], value.shape[2])
        or attention.shape[3] != value.shape[3]
        or value.shape[1] % attention.shape[1]
    ):
        raise ValueError(
            f'attention must have shape (N, G, H, W, {kernel_size**2}) for value (N, C, H, W), and G divide C, but got '
            f'{tuple(attention.shape)} and {tuple(value.shape)}'
        )
    if kernel_size > value.shape[2] or kernel_size > value.shape[3]:
        raise ValueError(
            f'kernel_size must be at most the height and width of value, {tuple(value.shape[2:])}, but got '
            f'{kernel_size}'
        )
    form = _Dense if value.shape[2] * value.shape[3] <= max(DENSE_FACTOR * kernel_size**2, SMALL_MAP) else _Bands
    with reporting('neighbourhood_gather', value.shape, attention, (kernel_size, kernel_size)):
        if is_watched(attention, value):
            return form.compute(attention, value, kernel_size)
        return _Gather.apply(attention, value, kernel_size, form)


def window_starts(size: int, kernel_size: int, device: torch.device) -> Tensor:
    """Where the window of each pixel of a side starts, (size,)."""
    return (torch.arange(size, device=device) - kernel_size // 2).clamp(0, size - kernel_size)


def relative_bias(table: Tensor, height: int, width: int, kernel_size: int) -> Tensor:
    """The entry of each pixel and neighbour by the step from one to the other.

    Args:
        table: (G, 2 K - 1, 2 K - 1): the step of (dy, dx) at (dy + K - 1, dx + K - 1).
        height, width: Of the map, at least K.
        kernel_size: K.

    Returns:
        (G, H, W, K^2).
    """

    def steps(size: int) -> Tensor:
        pixels = torch.arange(size, device=table.device)
        return (_neighbours(size, kernel_size, table.device) - pixels[:, None] + kernel_size - 1).flatten()

    # two selections of one axis each: their gradients are sums over an axis, not over single entries
    chosen = table.index_select(1, steps(height)).index_select(2, steps(width))
    chosen = chosen.view(-1, height, kernel_size, width, kernel_size).permute(0, 1, 3, 2, 4)
    return chosen.reshape(-1, height, width, kernel_size**2)


def _neighbours(size: int, kernel_size: int, device: torch.device) -> Tensor:
    """The pixels of each pixel's window along one side, (size, K)."""
    return window_starts(size, kernel_size, device)[:, None] + torch.arange(kernel_size, device=device)


class _Dense:
    """One matrix (H W, H W) for each group, with the weights where a pixel is a neighbour, and zeros."""

    @staticmethod
    def compute(attention: Tensor, value: Tensor, kernel_size: int) -> Tensor:
        matrix = _Dense._matrix(attention, kernel_size)
        return (_by_group(value, attention) @ matrix.transpose(2, 3)).reshape(value.shape)

    @staticmethod
    def gradients(attention: Tensor, value: Tensor, kernel_size: int, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad = _by_group(grad, attention)
        to_value = grad @ _Dense._matrix(attention, kernel_size)
        to_matrix = grad.transpose(2, 3) @ _by_group(value, attention)
        places = _Dense._places(attention, kernel_size)
        return to_matrix.gather(3, places).view(attention.shape), to_value.reshape(value.shape)

    @staticmethod
    def _matrix(attention: Tensor, kernel_size: int) -> Tensor:
        pixels = attention.shape[2] * attention.shape[3]
        zeros = attention.new_zeros(*attention.shape[:2], pixels, pixels)
        return zeros.scatter(3, _Dense._places(attention, kernel_size), attention.flatten(2, 3))

    @staticmethod
    def _places(attention: Tensor, kernel_size: int) -> Tensor:
        height, width = attention.shape[2:4]
        rows = _neighbours(height, kernel_size, attention.device)[:, None, :, None]
        columns = _neighbours(width, kernel_size, attention.device)[None, :, None, :]
        places = (rows * width + columns).view(height * width, kernel_size**2)
        return places.expand(*attention.shape[:2], -1, -1)


class _Bands:
    """For each row of the window a band matrix (W, W) for each row of the map."""

    @staticmethod
    def compute(attention: Tensor, value: Tensor, kernel_size: int) -> Tensor:
        rows = _by_row(value, attention)
        out = torch.zeros_like(rows)
        for above, band in _Bands._bands(attention, kernel_size):
            out = out + rows.index_select(2, above) @ band.transpose(3, 4)
        return out.transpose(2, 3).reshape(value.shape)

    @staticmethod
    def gradients(attention: Tensor, value: Tensor, kernel_size: int, grad: Tensor) -> tuple[Tensor, Tensor]:
        rows, grad = _by_row(value, attention), _by_row(grad, attention)
        to_rows, to_attention = torch.zeros_like(rows), []
        places = _Bands._places(attention, kernel_size)
        for above, band in _Bands._bands(attention, kernel_size):
            to_rows.index_add_(2, above, grad @ band)
            to_attention.append((grad.transpose(3, 4) @ rows.index_select(2, above)).gather(4, places))
        return torch.cat(to_attention, dim=4), to_rows.transpose(2, 3).reshape(value.shape)

    @staticmethod
    def _bands(attention: Tensor, kernel_size: int) -> Any:
        """For each row of the window: the row of the map it is for each row, (H,), and the bands, (N, G, H, W, W)."""
        width, places = attention.shape[3], _Bands._places(attention, kernel_size)
        starts = window_starts(attention.shape[2], kernel_size, attention.device)
        for row, weights in enumerate(attention.split(kernel_size, dim=4)):
            zeros = attention.new_zeros(*attention.shape[:4], width)
            yield starts + row, zeros.scatter(4, places, weights)

    @staticmethod
    def _places(attention: Tensor, kernel_size: int) -> Tensor:
        columns = _neighbours(attention.shape[3], kernel_size, attention.device)
        return columns.expand(*attention.shape[:3], -1, -1)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, attention: Tensor, value: Tensor, kernel_size: int, form: type[_Dense] | type[_Bands]
    ) -> Tensor:
        ctx.save_for_backward(attention, value)
        ctx.kernel_size, ctx.form = kernel_size, form
        return form.compute(attention, value, kernel_size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *ctx.form.gradients(*ctx.saved_tensors, ctx.kernel_size, grad), None, None


def _by_group(x: Tensor, attention: Tensor) -> Tensor:
    """(N, C, H, W) as (N, G, C / G, H W)."""
    return x.reshape(x.shape[0], attention.shape[1], -1, x.shape[2] * x.shape[3])


def _by_row(x: Tensor, attention: Tensor) -> Tensor:
    """(N, C, H, W) as (N, G, H, C / G, W)."""
    return x.unflatten(1, (attention.shape[1], -1)).transpose(2, 3).contiguous()
