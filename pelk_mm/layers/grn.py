"""Global response normalisation (ConvNeXt V2, arXiv 2301.00808, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GlobalResponseNorm(nn.Module):
    """gamma * (x * Nx) + beta + x over (N, H, W, C), Nx = G / (mean of G over channels + eps).

    G is a channel's L2 norm over the pixels of its image. gamma and beta, (C,), start at zero: the identity.

    Args:
        channels: C.
        eps: Keeps the division finite.
    """

    #: None once a linear behind it has taken it over.
    beta: nn.Parameter | None

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        response = _norm_over_pixels(x)
        response = response / (response.mean(-1, keepdim=True) + self.eps)
        scale = (1 + self.gamma * response).to(x.dtype)
        return x * scale if self.beta is None else torch.addcmul(self.beta.to(x.dtype), x, scale)


def _norm_over_pixels(x: Tensor) -> Tensor:
    """L2 norm of (N, H, W, C) over H and W in float32 at least, (N, 1, 1, C)."""
    accumulator = torch.promote_types(x.dtype, torch.float32)
    if x.device.type != 'cpu' or x.dtype != accumulator:
        return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=accumulator)
    # More than twice as fast on a CPU, whose norms over outer dimensions are not vectorised. The floor keeps the root's
    # gradient finite where a channel is zero everywhere.
    return x.square().sum((1, 2), keepdim=True).clamp_min(torch.finfo(accumulator).tiny).sqrt()
