"""The layout ops in plain torch: what the Triton kernels are compared with, and what runs where they cannot."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arguments import without_autocast


def to_planes(input: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """The first ``channels`` of (N, C, H, W) in ``dtype``, contiguous."""
    return input[:, :channels].to(dtype).contiguous()


def join_norm(
    mixed: Tensor, passed: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype, width: int
) -> Tensor:
    """LayerNorm over the channels of (N, g, H, W) and (N, C - g, H, W), (N, H, W, width) in ``dtype``.

    Computed in float32 at least and rounded once; zeros behind the C channels.
    """
    accumulator = torch.promote_types(torch.promote_types(mixed.dtype, passed.dtype), torch.float32)
    rows = torch.cat([part.permute(0, 2, 3, 1).to(accumulator) for part in (mixed, passed)], dim=-1)
    with without_autocast(mixed.device.type):
        rows = F.layer_norm(rows, weight.shape, weight.to(accumulator), bias.to(accumulator), eps).to(dtype)
    return F.pad(rows, (0, width - rows.shape[-1])) if width > rows.shape[-1] else rows
