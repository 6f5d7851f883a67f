"""ShiftWiseNet: large kernels from shifted groups of small ones (Li et al., CVPR 2025, arXiv 2401.12736).

Written from the facts of the authors' public code, whose weights fit (``docs/guide/weights.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..layers.mixers.shiftwise import ShiftwiseConv
from ..registry import MODELS, register
from .convnext_skeleton import LargeKernelConvNeXt
from .skeleton import check_kernel_sizes
from .unirep_skeleton import UniRepBackbone


@register(MODELS)
class ShiftWiseNet(UniRepBackbone):
    """The network of the paper, its authors' second version: :class:`ShiftwiseConv` in UniRepLKNet's skeleton.

    Args:
        arch: 'tiny', 'small' (the paper's), 'base', 'large'; or ``dict(depths=..., channels=...)`` with four entries
            each.
        in_channels: Channels of the image.
        kernel_sizes: M of each stage, odd.
        small_kernel, ghost_ratio, rep_paths, edges: N, G, P and R of :class:`ShiftwiseConv`.
        **kwargs: Every other argument of :class:`UniRepBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        small_kernel: int = 3,
        ghost_ratio: float = 0.23,
        rep_paths: int = 2,
        edges: int = 4,
        **kwargs: Any,
    ) -> None:
        self.kernel_sizes = check_kernel_sizes(kernel_sizes)
        self._mixer_args: dict[str, Any] = {
            'small_kernel': small_kernel,
            'ghost_ratio': ghost_ratio,
            'rep_paths': rep_paths,
            'edges': edges,
        }
        super().__init__(arch, in_channels, **kwargs)

    def build_mixer(self, stage: int, block: int, channels: int) -> ShiftwiseConv:
        """A :class:`ShiftwiseConv`, the same tables in every block of a stage."""
        kernel_size = self.kernel_sizes[stage]
        return ShiftwiseConv(channels, kernel_size, norm_cfg=self.branch_norm_cfg, **self._mixer_args)


@register(MODELS)
class ShiftWiseNetV1(LargeKernelConvNeXt):
    """The authors' first version: :class:`ShiftwiseConv` in the skeleton of ConvNeXt and SLaK.

    Args:
        arch: 'tiny', 'small', 'base'; or ``dict(depths=..., channels=...)`` with four entries each.
        in_channels: Channels of the image.
        kernel_sizes: M of each stage, odd.
        small_kernel, ghost_ratio, rep_paths, edges: N, G, P and R of :class:`ShiftwiseConv`.
        **kwargs: Every other argument of :class:`LargeKernelConvNeXt`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        small_kernel: int = 3,
        ghost_ratio: float = 0.23,
        rep_paths: int = 2,
        edges: int = 4,
        **kwargs: Any,
    ) -> None:
        self._shuffle_args: dict[str, Any] = {'ghost_ratio': ghost_ratio, 'rep_paths': rep_paths, 'edges': edges}
        super().__init__(arch, in_channels, kernel_sizes, small_kernel, **kwargs)

    def build_mixer(self, stage: int, block: int, channels: int) -> ShiftwiseConv:
        """A :class:`ShiftwiseConv`, the same tables in every block of a stage."""
        kernel_size = self.kernel_sizes[stage]
        return ShiftwiseConv(channels, kernel_size, even=False, **self._mixer_args, **self._shuffle_args)
