"""Large depthwise convolutions that others have published, where the user has them importable."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor, nn

#: What the convolutions inside a WTConv measure: its authors' default.
WAVELET_KERNEL = 5

#: Name of each WTConv to its module; all of them have a ``WTConv2d`` with the same arguments.
WAVELETS = {
    'wtconv': 'wtconv',
    'wtconv cuda': 'fast_wtconv.wtconv_cuda',
    'wtconv triton': 'fast_wtconv.wtconv_triton',
}


def implicit_gemm(kernel: Tensor) -> nn.Module:
    """MegEngine's implicit GEMM with ``kernel`` (C, 1, K, K), as RepLKNet and SLaK use it; no bias, CUDA alone.

    Raises:
        Exception: Whatever its import or its constructor raises; the message says what is missing.
    """
    module = _imported('depthwise_conv2d_implicit_gemm').DepthWiseConv2dImplicitGEMM(
        kernel.shape[0], kernel.shape[-1], bias=False
    )
    module = module.to(kernel.device, kernel.dtype)
    module.weight.data.copy_(kernel.detach())
    return module.requires_grad_(kernel.requires_grad)


def wavelet_convolution(name: str, x: Tensor, kernel_size: int) -> nn.Module:
    """A WTConv (arXiv 2407.05848) for images like ``x`` whose coarsest level sees at least ``kernel_size`` pixels.

    It computes another function than a convolution with a K x K kernel: 5 x 5 convolutions between the levels of a Haar
    wavelet transform. Fewer levels where the map has no more to halve.

    Args:
        name: A key of :data:`WAVELETS`.
        x: (N, C, H, W).
        kernel_size: K.

    Raises:
        Exception: Whatever its import or its constructor raises; the message says what is missing.
    """
    levels = max(1, math.ceil(math.log2(kernel_size / WAVELET_KERNEL)))
    levels = min(levels, max(1, math.ceil(math.log2(max(x.shape[2:])))))
    build: Callable[..., nn.Module] = _imported(WAVELETS[name]).WTConv2d
    module = build(x.shape[1], x.shape[1], kernel_size=WAVELET_KERNEL, bias=False, wt_levels=levels)
    return module.to(x.device, x.dtype)


def trained_parameters(module: nn.Module) -> tuple[Tensor, ...]:
    """What of a module takes gradients."""
    return tuple(parameter for parameter in module.parameters() if parameter.requires_grad)


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f'{name} cannot be imported ({error})') from error
