"""How ``torch.utils.flop_counter.FlopCounterMode`` counts the ops of this package: importing registers the formulas.

Not registered at the import of the package, since torch's counter imports Triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from ...ops.backends import choice  # noqa: F401  (defines the ops)
from ...utils.compat import HAS_LIBRARY
from .op_counter import depthwise_macs

Shape = Sequence[int]


def shared_conv2d_flops(
    input: Shape, weight: Shape, rows: Sequence[int], columns: Sequence[int], *args: Any, **kwargs: Any
) -> int:
    """Two operations for each tap of the dense kernel and pixel, padding included, as torch counts ``F.conv2d``."""
    return 2 * depthwise_macs(input, (sum(rows), sum(columns)))


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


if HAS_LIBRARY:  # older torch counts what the back-end computes with instead
    register_flop_formula(torch.ops.pelk_mm.shared_conv2d)(shared_conv2d_flops)
    register_flop_formula(torch.ops.pelk_mm.shared_conv2d_backward)(shared_conv2d_backward_flops)
