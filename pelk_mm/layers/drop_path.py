"""Stochastic depth (Huang et al., arXiv 1603.09382)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zeroes whole samples of a residual branch while training and rescales the others.

    Args:
        drop_prob: Probability in [0, 1) of dropping a sample.

    Raises:
        ValueError: ``drop_prob`` out of range.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= drop_prob < 1.0:
            raise ValueError(f'drop_prob must be in [0, 1), but got {drop_prob}')
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to the same shape."""
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1.0 - self.drop_prob
        mask = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) < keep
        return x * (mask.to(x.dtype) / keep)

    def extra_repr(self) -> str:
        """The probability."""
        return f'drop_prob={self.drop_prob:g}'
