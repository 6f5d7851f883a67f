"""SLaK: more ConvNets in the 2020s, scaling up kernels beyond 51 x 51 (Liu et al., ICLR 2023, arXiv 2207.03620)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..layers import StripeConv
from ..registry import MODELS, register
from .convnext_skeleton import LargeKernelConvNeXt


@register(MODELS)
class SLaK(LargeKernelConvNeXt):
    """SLaK backbone: :class:`StripeConv`, a K x n and an n x K kernel beside an n x n one, in ConvNeXt.

    The published 30, 55 and 95 M parameters are what 40 % sparsity leaves of a net 1.3 times as wide:
    ``DynamicSparsityHook``.

    Args:
        arch, in_channels, kernel_sizes: As for :class:`LargeKernelConvNeXt`.
        small_kernel: n, odd.
        width_factor: Multiplies every channel count, of a dict too, truncated; 1.0 for a net without sparsity.
        **kwargs: Every other argument of :class:`LargeKernelConvNeXt`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    mixer_class = StripeConv

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        small_kernel: int = 5,
        width_factor: float = 1.3,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, in_channels, kernel_sizes, small_kernel, width_factor, **kwargs)
