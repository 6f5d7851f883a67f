"""Peripheral convolution (PeLK, arXiv 2403.07589, section 4.1, Eq. 1)."""

from __future__ import annotations

from torch import Tensor

from .arguments import autocast, check_tensors
from .backends.choice import depthwise
from .grid import SharingGrid
from .observe import reporting


def peripheral_conv2d(
    input: Tensor,
    weight: Tensor,
    grid: SharingGrid,
    bias: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Depthwise K x K cross-correlation whose taps share k' x k' parameters over ``grid``.

    "Same" zero padding, stride 1; differentiable in ``input``, ``weight`` and ``bias``.

    Args:
        input: (N, C, H, W), C, H, W >= 1; float32, float64, float16 or bfloat16. An empty batch is fine.
        weight: (C, k', k'), one parameter for each region of the grid; dtype and device of ``input``.
        grid: Cuts K into k' segments an axis.
        bias: (C,), or a map (C, H, W) added to every image, or None.
        backend: One of ``available_backends()``, or None for the fastest that can run.

    Returns:
        (N, C, H, W), dtype of ``input`` (of autocast where that is active).

    Raises:
        TypeError: Wrong types or a mix of dtypes.
        ValueError: Wrong shapes, a weight of another k', different devices, an unknown ``backend``.
        RuntimeError: The named ``backend`` cannot serve the call.
    """
    if not isinstance(grid, SharingGrid):
        raise TypeError(f'grid must be a SharingGrid, but got {type(grid).__name__}')
    input, cast_weight, bias = autocast(input, weight, bias)
    check_tensors(input, cast_weight, bias)
    grid.check_weight(weight)
    with reporting('peripheral_conv2d', input.shape, weight, (grid.kernel_size, grid.kernel_size)):
        return depthwise(input, cast_weight.unsqueeze(1), grid.sizes, grid.sizes, bias, backend)
