"""Linears on padded rows: matrix products are fastest where rows start at multiples of 16 bytes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: So many rows pay for copies of the weights: a model of an H100, in which a product on other rows takes twice as long.
FEWEST_ROWS = 2048


def padded_width(width: int, dtype: torch.dtype) -> int:
    """``width`` rounded up to elements that fill multiples of 16 bytes."""
    unit = 16 // dtype.itemsize
    return -(-width // unit) * unit


def padded_linear(x: Tensor, weight: Tensor, bias: Tensor, width: int) -> Tensor:
    """``F.linear`` in the dtype of ``x``, whose rows may be longer than those of the weights and whose output may, too.

    Args:
        x: (..., n), n at least I; what stands behind the first I elements counts nothing where it is finite.
        weight: (O, I).
        bias: (O,).
        width: At least O.

    Returns:
        (..., width), zeros behind the first O elements.
    """
    missing = width - weight.shape[0]
    weight = F.pad(weight.to(x.dtype), (0, x.shape[-1] - weight.shape[1], 0, missing))
    return F.linear(x, weight, F.pad(bias.to(x.dtype), (0, missing)))
