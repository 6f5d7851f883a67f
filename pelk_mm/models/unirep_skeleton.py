"""The skeleton of UniRepLKNet, which ShiftWise (version 2) shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..layers.norm import build_activation, build_norm, check_branch_norm_cfg
from ..layers.unirep_block import UniRepBlock
from .skeleton import LargeKernelBackbone


class UniRepBackbone(LargeKernelBackbone):
    """Overlapping 3 x 3 stem and downsampling, and :class:`UniRepBlock` (UniRepLKNet, arXiv 2311.15599, section 3.3).

    A network gives :meth:`build_mixer`. Sides that 32 does not divide are rounded up at each stride: stage i gives
    ceil(H / 2^(i+2)).

    Args:
        arch, in_channels: As for :class:`LargeKernelBackbone`.
        norm_cfg: LayerNorm of stem, downsampling and outputs.
        branch_norm_cfg: BatchNorm of the mixers and the two of each block: 'BN' or 'SyncBN'.
        act_cfg: Activation of stem and blocks.
        **kwargs: Every other argument of :class:`LargeKernelBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings = {
        'tiny': {'depths': (3, 3, 18, 3), 'channels': (80, 160, 320, 640)},
        'small': {'depths': (3, 3, 27, 3), 'channels': (96, 192, 384, 768)},
        'base': {'depths': (3, 3, 27, 3), 'channels': (128, 256, 512, 1024)},
        'large': {'depths': (3, 3, 27, 3), 'channels': (192, 384, 768, 1536)},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        *,
        norm_cfg: Mapping[str, Any] = {'type': 'LN2d', 'eps': 1e-6},  # noqa: B006 (never written to)
        branch_norm_cfg: Mapping[str, Any] = {'type': 'BN'},  # noqa: B006
        act_cfg: Mapping[str, Any] = {'type': 'GELU'},  # noqa: B006
        **kwargs: Any,
    ) -> None:
        self.branch_norm_cfg = check_branch_norm_cfg(branch_norm_cfg, 'branch_norm_cfg')
        super().__init__(arch, in_channels, norm_cfg=norm_cfg, act_cfg=act_cfg, **kwargs)
        self.train()  # freezes what frozen_stages names

    def build_block(self, stage: int, block: int, channels: int, drop_path_rate: float) -> UniRepBlock:
        """One :class:`UniRepBlock` around :meth:`build_mixer`'s mixer."""
        return UniRepBlock(
            self.build_mixer(stage, block, channels),
            channels,
            branch_norm_cfg=self.branch_norm_cfg,
            act_cfg=self.act_cfg,
            drop_path_rate=drop_path_rate,
            **self._block_args,
        )

    def build_stem(self, channels: int) -> nn.Sequential:
        """Image (N, in_channels, H, W) to (N, channels, ceil(H / 4), ceil(W / 4))."""
        return overlapping_stem(self.in_channels, channels, self.norm_cfg, self.act_cfg)

    def build_downsample(self, in_channels: int, channels: int, stride: int = 2) -> nn.Sequential:
        """(N, in_channels, H, W) to (N, channels, ceil(H / stride), ceil(W / stride)), between two stages."""
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1),
            build_norm(self.norm_cfg, channels),
        )


def overlapping_stem(
    in_channels: int, channels: int, norm_cfg: Mapping[str, Any], act_cfg: Mapping[str, Any]
) -> nn.Sequential:
    """Two normed 3 x 3 convolutions of stride 2, (N, in_channels, H, W) to (N, channels, ceil(H / 4), ceil(W / 4))."""
    half = max(channels // 2, 1)
    return nn.Sequential(
        nn.Conv2d(in_channels, half, kernel_size=3, stride=2, padding=1),
        build_norm(norm_cfg, half),
        build_activation(act_cfg),
        nn.Conv2d(half, channels, kernel_size=3, stride=2, padding=1),
        build_norm(norm_cfg, channels),
    )
