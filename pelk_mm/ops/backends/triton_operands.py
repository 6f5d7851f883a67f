"""What kernels may take for granted of their operands: where they start, and how many elements are read at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Alignments, in elements, that kernels are compiled for: up to 16 bytes at a time.
UNITS = (8, 4, 2, 1)


def units(dtype: torch.dtype) -> list[int]:
    """Those of UNITS that 16 bytes hold."""
    return [unit for unit in UNITS if unit * dtype.itemsize <= 16]


def unit_of(dtype: torch.dtype, *lengths: int) -> int:
    """The largest alignment that divides every length."""
    return next(unit for unit in units(dtype) if math.gcd(*lengths) % unit == 0)


def row_major(tensor: Tensor) -> Tensor:
    """The tensor itself where the pixels of a row are neighbours and it is aligned, else a contiguous copy."""
    return aligned(tensor if tensor.stride(3) == 1 else tensor.contiguous())


def aligned(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy where it does not start at 16 bytes, as the kernels are compiled for."""
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone(memory_format=torch.contiguous_format)


def bias_strides(bias: Tensor | None, pixels: int) -> tuple[int, int]:
    """Strides of a bias between channels and between pixels."""
    return (1, 0) if bias is None or bias.ndim == 1 else (pixels, 1)
