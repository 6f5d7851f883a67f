"""Deformable convolution, version 3: its core, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..utils.checks import check_number, check_odd
from .arguments import without_autocast


def dcnv3(value: Tensor, offset: Tensor, mask: Tensor, *, kernel_size: int = 3, offset_scale: float = 1.0) -> Tensor:
    """For each pixel and group of channels the sum of k x k bilinear samples, each times its mask.

    With tap p at (dx, dy) = (p // k, p % k) - (k - 1) / 2, in pixels, its sample is taken at
    x + offset_scale (dx + offset_x), and y likewise; outside of the map there are zeros. Stride 1, no dilation. Source:
    Wang et al., InternImage (arXiv 2211.05778), section 3.1, which applies a softmax to the mask before; UniConvNet
    (arXiv 2508.09000) does not.

    Args:
        value: (N, H, W, C), G groups of C / G channels.
        offset: (N, H, W, G k k 2), in pixels, x before y; taps column by column.
        mask: (N, H, W, G k k), as it multiplies; G is read off it.
        kernel_size: k, odd.
        offset_scale: Multiplies the places of the taps and their offsets.

    Returns:
        (N, H, W, C), dtype of ``value``; computed in float32 at least.

    Raises:
        TypeError, ValueError: An argument is out of its range, or shapes do not belong together.
    """
    check_odd('kernel_size', kernel_size)
    check_number('offset_scale', offset_scale)
    for name, tensor in {'value': value, 'offset': offset, 'mask': mask}.items():
        if not isinstance(tensor, Tensor) or tensor.ndim != 4 or not tensor.is_floating_point():
            got = (tensor.dtype, tuple(tensor.shape)) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f'{name} must be a floating-point tensor of 4 dimensions, but got {got}')
    count, height, width, channels = value.shape
    taps = kernel_size**2
    groups = mask.shape[3] // taps
    if (
        groups < 1
        or channels % groups
        or tuple(mask.shape) != (count, height, width, groups * taps)
        or tuple(offset.shape) != (count, height, width, 2 * groups * taps)
    ):
        raise ValueError(
            f'offset and mask must have shapes (N, H, W, 2 G k k) and (N, H, W, G k k) for value '
            f'{tuple(value.shape)} in G groups and k = {kernel_size}, but got {tuple(offset.shape)} and '
            f'{tuple(mask.shape)}'
        )
    dtype = torch.promote_types(value.dtype, torch.float32)
    with without_autocast(value.device.type):
        planes = value.to(dtype).unflatten(3, (groups, -1)).permute(0, 3, 4, 1, 2).flatten(0, 1)
        grid = _places(offset.to(dtype).unflatten(3, (groups, taps, 2)), kernel_size, offset_scale)
        samples = F.grid_sample(planes, grid, align_corners=False)  # (N G, C / G, H W, k k)
        weights = (
            mask.to(dtype).unflatten(3, (groups, taps)).permute(0, 3, 1, 2, 4).reshape(-1, 1, height * width, taps)
        )
        mixed = (samples * weights).sum(3)
    return mixed.view(count, channels, height, width).permute(0, 2, 3, 1).to(value.dtype)


def _places(offset: Tensor, kernel_size: int, offset_scale: float) -> Tensor:
    """Where each tap samples, in ``grid_sample``'s coordinates, (N G, H W, k k, 2), x before y."""
    height, width, groups = offset.shape[1:4]
    rows, columns, steps = (
        torch.arange(size, dtype=offset.dtype, device=offset.device) for size in (height, width, kernel_size)
    )
    steps = steps - (kernel_size - 1) / 2
    taps = torch.stack([steps.repeat_interleave(kernel_size), steps.repeat(kernel_size)], dim=1)
    moved = offset_scale * (offset + taps)
    x = 2 / width * (moved[..., 0] + columns[:, None, None]) + (1 / width - 1)
    y = 2 / height * (moved[..., 1] + rows[:, None, None, None]) + (1 / height - 1)
    grid = torch.stack([x, y], dim=-1).permute(0, 3, 1, 2, 4, 5)
    return grid.reshape(-1, height * width, kernel_size**2, 2)
