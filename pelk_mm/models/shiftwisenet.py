"""ShiftWiseNet: large kernels from shifted groups of small ones (Li et al., CVPR 2025, arXiv 2401.12736).

Written from the facts of the authors' public code, whose weights fit (``docs/weights.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..layers.shiftwise import ShiftwiseConv
from ..registry import MODELS, register
from .skeleton import LargeKernelBackbone, check_kernel_sizes
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
class ShiftWiseNetV1(LargeKernelBackbone):
    """The authors' first version: :class:`ShiftwiseConv` in the skeleton of ConvNeXt and SLaK.

    Args:
        arch: 'tiny', 'small', 'base', 'large'; or ``dict(depths=..., channels=...)`` with four entries each.
        in_channels: Channels of the image.
        kernel_sizes: M of each stage, odd.
        small_kernel, ghost_ratio, rep_paths, edges: N, G, P and R of :class:`ShiftwiseConv`.
        width_factor: Multiplies every channel count, of a dict too, truncated.
        norm_cfg: LayerNorm of stem, blocks, downsampling and outputs.
        branch_norm_cfg: BatchNorm behind each branch of the mixers: 'BN' or 'SyncBN'.
        act_cfg: Activation of the blocks.
        **kwargs: Every other argument of :class:`LargeKernelBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings = {
        'tiny': {'depths': (3, 3, 9, 3), 'channels': (96, 192, 384, 768)},
        'small': {'depths': (3, 3, 27, 3), 'channels': (96, 192, 384, 768)},
        'base': {'depths': (3, 3, 27, 3), 'channels': (128, 256, 512, 1024)},
        'large': {'depths': (3, 3, 27, 3), 'channels': (192, 384, 768, 1536)},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        small_kernel: int = 3,
        ghost_ratio: float = 0.23,
        rep_paths: int = 2,
        edges: int = 4,
        width_factor: float = 1.0,
        norm_cfg: Mapping[str, Any] = {'type': 'LN2d', 'eps': 1e-6},  # noqa: B006 (never written to)
        branch_norm_cfg: Mapping[str, Any] = {'type': 'BN'},  # noqa: B006
        act_cfg: Mapping[str, Any] = {'type': 'GELU'},  # noqa: B006
        **kwargs: Any,
    ) -> None:
        self.kernel_sizes = check_kernel_sizes(kernel_sizes)
        self._mixer_args: dict[str, Any] = {
            'small_kernel': small_kernel,
            'ghost_ratio': ghost_ratio,
            'rep_paths': rep_paths,
            'edges': edges,
            'norm_cfg': branch_norm_cfg,
        }
        super().__init__(arch, in_channels, width_factor=width_factor, norm_cfg=norm_cfg, act_cfg=act_cfg, **kwargs)
        self.train()  # freezes what frozen_stages names

    def build_mixer(self, stage: int, block: int, channels: int) -> ShiftwiseConv:
        """A :class:`ShiftwiseConv`, the same tables in every block of a stage."""
        return ShiftwiseConv(channels, self.kernel_sizes[stage], even=False, **self._mixer_args)
