"""The inception mixer of InceptionNeXt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops import depthwise_conv2d
from ...utils.checks import check_int, check_number, check_odd
from .base import UnmergedMixer, in_square
from .partial import count_conv_channels


class InceptionConv(UnmergedMixer):
    """Four groups of channels: passed, k x k, 1 x b and b x 1 depthwise (InceptionNeXt, arXiv 2303.16900, section 3.2).

    The convolutions are biased and take ``g = int(branch_ratio * channels)`` channels each, the last 3 g in the order
    named; the others pass. There is no norm, so nothing to merge.

    Args:
        channels: C.
        branch_ratio: Share of the channels for each convolution, in (0, 1/3].
        square_kernel: k, odd.
        band_kernel: b, odd.

    Raises:
        TypeError, ValueError: An argument is out of its range, or a convolution is left without channels.
    """

    def __init__(
        self, channels: int, *, branch_ratio: float = 1 / 8, square_kernel: int = 3, band_kernel: int = 11
    ) -> None:
        super().__init__()
        check_int('channels', channels, 1)
        check_number('branch_ratio', branch_ratio)
        if not 0 < branch_ratio <= 1 / 3:
            raise ValueError(f'branch_ratio must be in (0, 1/3], but got {branch_ratio}')
        check_odd('square_kernel', square_kernel)
        check_odd('band_kernel', band_kernel)
        g = int(branch_ratio * channels)
        if g < 1:
            raise ValueError(
                f'branch_ratio={branch_ratio} of {channels} channels leaves none to convolve; raise one of them'
            )
        self.channels, self.branch_channels = channels, g
        self.square_kernel, self.band_kernel = square_kernel, band_kernel
        self.kernel_size = max(square_kernel, band_kernel)
        self.square_weight = nn.Parameter(torch.empty(g, 1, square_kernel, square_kernel))
        self.square_bias = nn.Parameter(torch.zeros(g))
        self.wide_weight = nn.Parameter(torch.empty(g, 1, 1, band_kernel))
        self.wide_bias = nn.Parameter(torch.zeros(g))
        self.tall_weight = nn.Parameter(torch.empty(g, 1, band_kernel, 1))
        self.tall_bias = nn.Parameter(torch.zeros(g))
        for weight in (self.square_weight, self.wide_weight, self.tall_weight):
            nn.init.trunc_normal_(weight, std=0.02)

    @classmethod
    def from_pelk(cls, channels: int, kernel_size: int, *, conv_ratio: float, small_kernel: int) -> InceptionConv:
        """Each convolution takes a third of PeLK's channels, whose 3/8 are InceptionNeXt's own 1/8.

        ``kernel_size`` is the length of the bands, ``small_kernel`` the side of the square.
        """
        branch_channels = count_conv_channels(channels, conv_ratio) // 3
        if branch_channels < 1:
            raise ValueError(
                f'conv_ratio={conv_ratio} of {channels} channels leaves none for each of the three convolutions of '
                "mixer='inception'; raise one of them"
            )
        check_odd('small_kernel', small_kernel)
        # half a channel more: the ratio is multiplied and truncated again
        ratio = min((branch_channels + 0.5) / channels, 1 / 3)
        return cls(channels, branch_ratio=ratio, square_kernel=small_kernel, band_kernel=kernel_size)

    def forward(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        """Mix tokens.

        Args:
            x: (N, C, H, W).
            pos_embed: None: this mixer reads no embedding.

        Returns:
            (N, C, H, W).

        Raises:
            ValueError: Another channel count, or an embedding.
        """
        self.check_input(x)
        self.refuse_pos_embed(pos_embed)
        g = self.branch_channels
        passed, square, wide, tall = x.split([self.channels - 3 * g, g, g, g], dim=1)
        parts = (
            passed,
            depthwise_conv2d(square, self.square_weight, self.square_bias),
            depthwise_conv2d(wide, self.wide_weight, self.wide_bias),
            depthwise_conv2d(tall, self.tall_weight, self.tall_bias),
        )
        # in channels-last memory whatever came: the block's norm and linears read it as it is
        return torch.cat([part.permute(0, 2, 3, 1) for part in parts], dim=-1).permute(0, 3, 1, 2)

    def dense_kernel(self) -> Tensor:
        """The square, the wide and the tall kernels one behind the other, as the channels, (3 g, K, K)."""
        weights = (self.square_weight, self.wide_weight, self.tall_weight)
        return torch.cat([in_square(weight, self.kernel_size) for weight in weights])

    def extra_repr(self) -> str:
        """Channels, kernels and form."""
        return (
            f'{self.channels}, branch_channels={self.branch_channels}, square_kernel={self.square_kernel}, '
            f'band_kernel={self.band_kernel}, deployed={self.deployed}'
        )
