"""ConvNeXt with a large kernel for every channel: what SLaK, RepLK51 and ShiftWiseNetV1 share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..layers import DenseConv, StripeConv, TokenMixer
from .skeleton import LargeKernelBackbone, check_kernel_sizes


class LargeKernelConvNeXt(LargeKernelBackbone):
    """ConvNeXt whose 7 x 7 convolutions give way to the network's :attr:`mixer_class`, over all channels.

    Args:
        arch: 'tiny', 'small', 'base'; or ``dict(depths=..., channels=...)`` with four entries each.
        in_channels: Channels of the image.
        kernel_sizes: K of each stage, odd.
        small_kernel: Size of the parallel small kernel, and the width of stripes.
        width_factor: Multiplies every channel count, of a dict too, truncated.
        norm_cfg: LayerNorm of stem, blocks, downsampling and outputs.
        branch_norm_cfg: BatchNorm behind each convolution branch: 'BN' or 'SyncBN'.
        act_cfg: Activation of the blocks.
        **kwargs: Every other argument of :class:`LargeKernelBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings = {
        'tiny': {'depths': (3, 3, 9, 3), 'channels': (96, 192, 384, 768)},
        'small': {'depths': (3, 3, 27, 3), 'channels': (96, 192, 384, 768)},
        'base': {'depths': (3, 3, 27, 3), 'channels': (128, 256, 512, 1024)},
    }
    mixer_class: type[DenseConv] | type[StripeConv]

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        small_kernel: int = 5,
        width_factor: float = 1.0,
        norm_cfg: Mapping[str, Any] = {'type': 'LN2d', 'eps': 1e-6},  # noqa: B006 (never written to)
        branch_norm_cfg: Mapping[str, Any] = {'type': 'BN'},  # noqa: B006
        act_cfg: Mapping[str, Any] = {'type': 'GELU'},  # noqa: B006
        **kwargs: Any,
    ) -> None:
        self.kernel_sizes = check_kernel_sizes(kernel_sizes)
        self._mixer_args: dict[str, Any] = {'small_kernel': small_kernel, 'norm_cfg': branch_norm_cfg}
        super().__init__(arch, in_channels, width_factor=width_factor, norm_cfg=norm_cfg, act_cfg=act_cfg, **kwargs)
        self.train()  # freezes what frozen_stages names

    def build_mixer(self, stage: int, block: int, channels: int) -> TokenMixer:
        """The network's mixer over the kernel of ``stage``."""
        return self.mixer_class(channels, self.kernel_sizes[stage], conv_ratio=1.0, **self._mixer_args)
