"""The ``dense`` back-end: stock ``F.conv2d`` on the expanded kernel. The reference, and the form that exports."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arguments import without_autocast
from ..segments import Segments, expand, reachable
from ..tracing import exporting, is_fixed
from .table import register

# On a CPU, stock depthwise convolutions of contiguous images fall off a cliff where a kernel's row is wider than this;
# in channels-last layout they do not (`tools/analysis_tools/benchmark.py op` shows both). Gradients are slow in both.
WIDEST_FAST_ROW = 14


def depthwise_dense(input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None) -> Tensor:
    """Depthwise cross-correlation, "same" zero padding, stride 1.

    Args:
        input: (N, C, H, W).
        weight: (C, 1, len(rows), len(columns)).
        rows, columns: Segments of the kernel's axes, of odd sums.
        bias: (C,), or a map (C, H, W) added to every image, or None.
    """
    if is_fixed(input.shape[2]) and is_fixed(input.shape[3]):
        row_axis, column_axis = reachable(rows, input.shape[2]), reachable(columns, input.shape[3])
        weight = weight[:, :, row_axis.kept, column_axis.kept]
        rows, columns = row_axis.sizes, column_axis.sizes
    kh, kw = sum(rows), sum(columns)
    dtype = input.dtype
    on_cpu = input.device.type == 'cpu'
    needs_grad = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
    # oneDNN's float16 depthwise convolution hangs for minutes on wide rows (torch 2.11, avx512_fp16)
    hangs = dtype == torch.float16 and max(kh, kw) > WIDEST_FAST_ROW
    # Where oneDNN lacks the type (bfloat16 without AVX-512), torch's own kernels sum an image's gradient tap by tap in
    # it: 49 x 3 taps are off by 3 % of the largest gradient, 51 x 51 by 13 %.
    is_rough = needs_grad and dtype in (torch.float16, torch.bfloat16) and not exporting()
    in_float32 = on_cpu and (hangs or is_rough)
    if in_float32:
        input, weight, bias = input.float(), weight.float(), None if bias is None else bias.float()
    kernel = expand(weight, rows, columns)
    is_fast_so = input.dtype == torch.float32 and kw > WIDEST_FAST_ROW and not needs_grad
    # oneDNN's weight gradient of a tall narrow kernel on contiguous images is wrong by a third, without a word, where
    # the map is about as high as the kernel or higher (torch 2.11: 49 x 3 on 50 rows); in channels-last it is right.
    is_right_so = needs_grad and kh > WIDEST_FAST_ROW >= kw
    if on_cpu and (is_fast_so or is_right_so):
        input = input.contiguous(memory_format=torch.channels_last)
    bias_map = bias if bias is not None and bias.ndim == 3 else None
    with without_autocast('cpu') if in_float32 else nullcontext():  # autocast would round to half precision again
        out = F.conv2d(
            input, kernel, bias if bias_map is None else None, padding=(kh // 2, kw // 2), groups=input.shape[1]
        )
    if exporting():
        out = out.contiguous()  # layouts that differ, summed, would tie the graph to some of the sizes
    return (out if bias_map is None else out + bias_map).to(dtype)


register('dense', depthwise_dense, None, lambda problem: None)
