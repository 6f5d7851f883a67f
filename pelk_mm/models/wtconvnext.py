"""WTConvNeXt: wavelet convolutions for large receptive fields (Finder et al., ECCV 2024, arXiv 2407.05848)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..layers import WaveletConv
from ..registry import MODELS, register
from ..utils.checks import check_int, check_sequence
from .convnext_skeleton import LargeKernelConvNeXt
from .skeleton import LargeKernelBackbone


@register(MODELS)
class WTConvNeXt(LargeKernelBackbone):
    """WTConvNeXt backbone: :class:`WaveletConv` over all channels in ConvNeXt.

    Args:
        arch: 'tiny', 'small', 'base'; or ``dict(depths=..., channels=...)`` with four entries each.
        in_channels: Channels of the image.
        kernel_size: k, odd, of the convolution of the map and of those of every wavelet level.
        wavelet_levels: Levels of each stage. Level l sees k 2^l pixels of the map.
        norm_cfg: LayerNorm of stem, blocks, downsampling and outputs.
        act_cfg: Activation of the blocks.
        **kwargs: Every other argument of :class:`LargeKernelBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings = LargeKernelConvNeXt.arch_settings

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        kernel_size: int = 5,
        wavelet_levels: Sequence[int] = (5, 4, 3, 2),
        norm_cfg: Mapping[str, Any] = {'type': 'LN2d', 'eps': 1e-6},  # noqa: B006 (never written to)
        act_cfg: Mapping[str, Any] = {'type': 'GELU'},  # noqa: B006
        **kwargs: Any,
    ) -> None:
        check_sequence('wavelet_levels', wavelet_levels)
        if len(wavelet_levels) != 4:
            raise ValueError(f'wavelet_levels must have one entry for each of the 4 stages, but got {wavelet_levels!r}')
        for levels in wavelet_levels:
            check_int('every entry of wavelet_levels', levels, 0)
        self.kernel_size, self.wavelet_levels = kernel_size, tuple(wavelet_levels)
        super().__init__(arch, in_channels, norm_cfg=norm_cfg, act_cfg=act_cfg, **kwargs)
        self.train()  # freezes what frozen_stages names

    def build_mixer(self, stage: int, block: int, channels: int) -> WaveletConv:
        """A :class:`WaveletConv` of the stage's levels."""
        return WaveletConv(channels, self.kernel_size, self.wavelet_levels[stage])
