"""Sums over the part of a kernel that lies on the image (PeLK, section 4.2, read over the visible positions)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..utils.checks import check_int, check_odd
from .arguments import without_autocast
from .observe import reporting
from .tracing import exporting


def visible_sum(product: Tensor, size: tuple[int, int]) -> Tensor:
    """At each pixel, the sum of ``product`` over the kernel positions that fall on an H x W image.

    Equals the depthwise correlation of an all-ones image with ``product`` under zero padding, in
    O(C kw (kh H + H W)) operations, independent of the batch: visibility separates into rows and columns. Products with
    0/1 matrices rather than prefix sums, since they add each pixel's terms directly (no cancellation) and their
    gradient is deterministic on every device.

    Args:
        product: (C, kh, kw), both odd; float32 or float64.
        size: (H, W) of the image.

    Returns:
        (C, H, W), of the dtype of ``product``.

    Raises:
        TypeError: ``product`` is no float32 or float64 tensor.
        ValueError: ``product`` is not (C, kh, kw) with odd sides, or ``size`` is not positive.
    """
    if not isinstance(product, Tensor) or product.dtype not in (torch.float32, torch.float64):
        raise TypeError(f'product must be a float32 or float64 tensor, but got {getattr(product, "dtype", product)}')
    if product.ndim != 3:
        raise ValueError(f'product must have shape (C, kh, kw), but got {tuple(product.shape)}')
    check_odd('kh of product', product.shape[1])
    check_odd('kw of product', product.shape[2])
    for name, length in zip(('H', 'W'), size, strict=True):
        check_int(f'{name} of size', length, 1)
    rows = visibility(product.shape[1], size[0], product)  # (H, kh)
    columns = visibility(product.shape[2], size[1], product)  # (W, kw)
    report = reporting('visible_sum', (product.shape[0], *size), product, (product.shape[1], product.shape[2]))
    with report, without_autocast(product.device.type):
        if exporting():  # slower gradients, but no reshape that would tie the graph to some of the sizes
            rows, columns = (matrix.expand(product.shape[0], -1, -1) for matrix in (rows, columns.T))
            return torch.bmm(torch.bmm(rows, product), columns)
        return rows @ product @ columns.T


def visibility(kernel_size: int, length: int, like: Tensor) -> Tensor:
    """0/1 matrix (length, K): whether tap i of a kernel centred on pixel y lies within the ``length`` pixels."""
    taps = torch.arange(kernel_size, device=like.device) - kernel_size // 2
    positions = torch.arange(length, device=like.device)[:, None] + taps
    return ((positions >= 0) & (positions < length)).to(like.dtype)
