"""Large dense and stripe depthwise convolutions through the shared back-ends."""

from __future__ import annotations

from torch import Tensor

from ..utils.checks import check_odd
from .arguments import autocast, check_tensors
from .backends.choice import depthwise
from .observe import reporting


def depthwise_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: str | None = None
) -> Tensor:
    """Depthwise cross-correlation with "same" zero padding and stride 1, differentiable in all three tensors.

    Args:
        input: (N, C, H, W), C, H, W >= 1; float32, float64, float16 or bfloat16. An empty batch is fine.
        weight: (C, 1, kh, kw), kh and kw odd; dtype and device of ``input``.
        bias: (C,), or a map (C, H, W) added to every image, or None.
        backend: One of ``available_backends()``, or None for the fastest that can run.

    Returns:
        (N, C, H, W), dtype of ``input`` (of autocast where that is active).

    Raises:
        TypeError: Wrong types or a mix of dtypes.
        ValueError: Wrong shapes, an even kernel, different devices, an unknown ``backend``.
        RuntimeError: The named ``backend`` cannot serve the call.
    """
    input, cast_weight, bias = autocast(input, weight, bias)
    check_tensors(input, cast_weight, bias)
    if weight.ndim != 4 or weight.shape[1] != 1:
        raise ValueError(f'weight must have shape (C, 1, kh, kw), but got {tuple(weight.shape)}')
    check_odd('height of weight', weight.shape[2])
    check_odd('width of weight', weight.shape[3])
    rows, columns = (1,) * weight.shape[2], (1,) * weight.shape[3]
    with reporting('depthwise_conv2d', input.shape, weight, (len(rows), len(columns))):
        return depthwise(input, cast_weight, rows, columns, bias, backend)
