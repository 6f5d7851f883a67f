"""Squeeze-and-excitation (Hu et al., arXiv 1709.01507)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcite(nn.Module):
    """x * sigmoid(up(ReLU(down(mean of x over its pixels)))): a gate for each image and channel.

    Args:
        channels: C.
        hidden_channels: Width between the two biased 1 x 1 convolutions.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, hidden_channels, kernel_size=1)
        self.up = nn.Conv2d(hidden_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape and memory layout."""
        return x * self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()
