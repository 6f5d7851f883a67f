"""A biased depthwise convolution as a plain layer, computed by the package's back-ends."""

from __future__ import annotations

from torch import Tensor, nn

from ..ops import depthwise_conv2d


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with one channel a group, "same" zero padding and stride 1.

    Args:
        channels: C.
        kernel_size: K, odd.
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return depthwise_conv2d(x, self.weight, self.bias)


class ResidualDepthwiseConv2d(DepthwiseConv2d):
    """x plus the convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x + super().forward(x)
