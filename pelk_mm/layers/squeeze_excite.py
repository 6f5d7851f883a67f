"""Squeeze-and-excitation (Hu et al., arXiv 1709.01507)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .norm import build_activation


class SqueezeExcite(nn.Module):
    """x * sigmoid(up(act(down(mean of x over its pixels)))): a gate for each image and channel.

    Args:
        channels: C.
        hidden_channels: Width between the two biased 1 x 1 convolutions.
        act_cfg: The activation, ReLU by default.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        act_cfg: Mapping[str, Any] = {'type': 'ReLU'},  # noqa: B006 (never written to)
    ) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, hidden_channels, kernel_size=1)
        self.act = build_activation(act_cfg)
        self.up = nn.Conv2d(hidden_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape and memory layout."""
        return x * self.up(self.act(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()
