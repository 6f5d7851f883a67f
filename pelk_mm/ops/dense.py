"""The ``dense`` back-end: stock ``F.conv2d`` on the expanded kernel. The reference, and the form that exports."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def depthwise_dense(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise cross-correlation, "same" zero padding, stride 1.

    Args:
        input: (N, C, H, W).
        weight: (C, 1, kh, kw), odd.
        bias: (C,) or None.
    """
    kh, kw = weight.shape[2:]
    return F.conv2d(input, weight, bias, padding=(kh // 2, kw // 2), groups=input.shape[1])
