"""The ``dense`` back-end: stock ``F.conv2d`` on the expanded kernel. The reference, and the form that exports."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# On a CPU, stock depthwise convolutions of contiguous images fall off a cliff where a kernel's row is wider than this;
# in channels-last layout they do not (`tools/analysis_tools/benchmark.py op` shows both). Gradients are slow in both.
WIDEST_FAST_ROW = 14


def depthwise_dense(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise cross-correlation, "same" zero padding, stride 1.

    Args:
        input: (N, C, H, W).
        weight: (C, 1, kh, kw), odd.
        bias: (C,) or None.
    """
    kh, kw = weight.shape[2:]
    needs_grad = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
    if input.device.type == 'cpu' and input.dtype == torch.float32 and kw > WIDEST_FAST_ROW and not needs_grad:
        input = input.contiguous(memory_format=torch.channels_last)
    return F.conv2d(input, weight, bias, padding=(kh // 2, kw // 2), groups=input.shape[1])
