"""UniConvNet: small kernels that add up to a large receptive field (ICCV 2025, arXiv 2508.09000)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any

from torch import nn

from ..layers.norm import build_norm
from ..layers.uniconv_block import DeformableConv, UniConvBlock
from ..registry import MODELS, register
from ..utils.checks import check_int
from .skeleton import LargeKernelBackbone
from .unirep_skeleton import overlapping_stem

#: Channels of a group of the authors' deformable convolutions, but those of their small nets, which have 8.
WIDEST_GROUP = 16
_NARROW_GROUPS = ('atto', 'pico0', 'pico1', 'pico2')


@register(MODELS)
class UniConvNet(LargeKernelBackbone):
    """UniConvNet backbone: :class:`UniConvBlock` between overlapping 3 x 3 downsampling.

    Its kernels are 7, 9 and 11, one upon the other; a deformable convolution follows. Deployment merges nothing, there
    being no BatchNorm. Sides that 32 does not divide are rounded up at each stride.

    Args:
        arch: 'atto', 'pico0' to 'pico2', 'nano0' to 'nano3', 'tiny', 'small', 'base', 'large', 'xlarge': the authors'
            A, P0 to P2, N0 to N3 and T to XL; or ``dict(depths=..., channels=...)`` with four entries each.
        in_channels: Channels of the image.
        group_width: Channels of each group of the deformable convolutions; None for the authors' 8 up to 'pico2' and 16
            beyond, or for the largest share of 16 that divides all of a dict's channels.
        norm_cfg: LayerNorm of stem, blocks, downsampling and outputs.
        act_cfg: Activation of stem and blocks.
        **kwargs: Every other argument of :class:`LargeKernelBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings = {
        'atto': {'depths': (2, 3, 9, 2), 'channels': (24, 48, 96, 192)},
        'pico0': {'depths': (2, 2, 7, 2), 'channels': (32, 64, 128, 256)},
        'pico1': {'depths': (2, 3, 6, 3), 'channels': (32, 64, 128, 256)},
        'pico2': {'depths': (3, 3, 11, 3), 'channels': (32, 64, 128, 256)},
        'nano0': {'depths': (2, 2, 7, 2), 'channels': (48, 96, 192, 384)},
        'nano1': {'depths': (2, 2, 8, 3), 'channels': (48, 96, 192, 384)},
        'nano2': {'depths': (3, 3, 11, 3), 'channels': (48, 96, 192, 384)},
        'nano3': {'depths': (3, 3, 19, 3), 'channels': (48, 96, 192, 384)},
        'tiny': {'depths': (3, 3, 15, 3), 'channels': (64, 128, 256, 512)},
        'small': {'depths': (3, 3, 17, 3), 'channels': (80, 160, 320, 640)},
        'base': {'depths': (4, 4, 13, 4), 'channels': (112, 224, 448, 896)},
        'large': {'depths': (3, 3, 18, 3), 'channels': (160, 320, 640, 1280)},
        'xlarge': {'depths': (3, 3, 22, 3), 'channels': (160, 320, 640, 1280)},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        group_width: int | None = None,
        norm_cfg: Mapping[str, Any] = {'type': 'LN2d', 'eps': 1e-6},  # noqa: B006 (never written to)
        act_cfg: Mapping[str, Any] = {'type': 'GELU'},  # noqa: B006
        **kwargs: Any,
    ) -> None:
        if group_width is not None:
            check_int('group_width', group_width, 1)
        elif isinstance(arch, str):
            group_width = 8 if arch in _NARROW_GROUPS else WIDEST_GROUP
        self.group_width = group_width
        super().__init__(arch, in_channels, norm_cfg=norm_cfg, act_cfg=act_cfg, **kwargs)
        for module in self.modules():
            if isinstance(module, DeformableConv):
                module.reset_parameters()
        self.train()  # freezes what frozen_stages names

    def build_block(self, stage: int, block: int, channels: int, drop_path_rate: float) -> UniConvBlock:
        """A :class:`UniConvBlock` in groups of ``group_width`` channels."""
        width = gcd(WIDEST_GROUP, *self.channels) if self.group_width is None else self.group_width
        if channels % width:
            raise ValueError(f'group_width must divide the channels of every stage, {self.channels}, but got {width}')
        return UniConvBlock(
            channels,
            channels // width,
            norm_cfg=self.norm_cfg,
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
            build_norm(self.norm_cfg, in_channels),
            nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1),
        )
