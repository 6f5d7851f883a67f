"""How ``torch.utils.flop_counter.FlopCounterMode`` counts the ops of this package: importing registers the formulas.

Not registered at the import of the package, since torch's counter imports Triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from ...ops.backends import library  # noqa: F401  (defines the ops)
from .op_counter import depthwise_macs

Shape = Sequence[int]


@register_flop_formula(torch.ops.pelk_mm.shared_conv2d)
def shared_conv2d_flops(
    input: Shape, weight: Shape, rows: Sequence[int], columns: Sequence[int], *args: Any, **kwargs: Any
) -> int:
    """Two operations for each tap of the dense kernel and pixel, padding included, as torch counts ``F.conv2d``."""
    return 2 * depthwise_macs(input, (sum(rows), sum(columns)))


@register_flop_formula(torch.ops.pelk_mm.shared_conv2d_backward)
def shared_conv2d_backward_flops(
    grad: Shape,
    input: Shape,
    weight: Shape,
    rows: Sequence[int],
    columns: Sequence[int],
    backend: str,
    mask: Sequence[bool],
    **kwargs: Any,
) -> int:
    """As many for each gradient that is needed as for the output."""
    return sum(mask) * shared_conv2d_flops(input, weight, rows, columns)
