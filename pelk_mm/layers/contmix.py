"""ContMix: kernels that each pixel makes from what it has in common with the regions of the map (OverLoCK)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import neighbourhood_gather
from ..ops.arguments import without_autocast
from ..ops.neighbourhood import relative_bias
from ..utils.checks import check_int, check_odd
from .norm import build_branch_norm

#: Regions of the map along each side.
REGIONS = 7


class ContMix(nn.Module):
    """Mix pixels with S x S and K x K kernels, one for each pixel and head (OverLoCK, arXiv 2502.20087, section 3.3).

    A pixel's query meets the keys of 7 x 7 regions of the context; a linear map of the 49 products gives the S^2 + K^2
    logits of its two kernels, which with a bias of relative position go through a softmax. Half of the channels are
    mixed by the small kernels, half by the large ones. Windows move inwards at the borders. A map with a side below K
    is resized, bilinearly, so that this side is K, and the result averaged back.

    Products and logits are float32 at least under autocast: in half precision the softmax overflows.

    Args:
        channels: C of the values and queries, a multiple of 2 G.
        context_channels: Of the context.
        heads: G.
        kernel_size: K, odd.
        small_kernel: S, odd, at most K.
        norm_cfg: BatchNorm of queries and keys: ``dict(type='BN' | 'SyncBN')``.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    #: How values are summed with the kernels.
    gather = staticmethod(neighbourhood_gather)

    def __init__(
        self,
        channels: int,
        context_channels: int,
        heads: int,
        kernel_size: int,
        small_kernel: int = 5,
        *,
        norm_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_int('heads', heads, 1)
        check_odd('kernel_size', kernel_size)
        check_odd('small_kernel', small_kernel)
        if channels % (2 * heads):
            raise ValueError(f'channels must be a multiple of 2 * heads={2 * heads}, but got {channels}')
        if small_kernel > kernel_size:
            raise ValueError(f'small_kernel must be at most kernel_size={kernel_size}, but got {small_kernel}')
        self.channels, self.heads = channels, heads
        self.kernel_size, self.small_kernel = kernel_size, small_kernel
        half = channels // 2
        self.query = nn.Conv2d(channels, half, kernel_size=1, bias=False)
        self.query_norm = build_branch_norm(norm_cfg, half)
        self.key = nn.Conv2d(context_channels, half, kernel_size=1, bias=False)
        self.key_norm = build_branch_norm(norm_cfg, half)
        self.weight_proj = nn.Linear(REGIONS**2, small_kernel**2 + kernel_size**2)
        self.small_bias = nn.Parameter(torch.zeros(heads, 2 * small_kernel - 1, 2 * small_kernel - 1))
        self.large_bias = nn.Parameter(torch.zeros(heads, 2 * kernel_size - 1, 2 * kernel_size - 1))

    def forward(self, values: Tensor, guide: Tensor) -> Tensor:
        """Mix.

        Args:
            values: (N, C, H, W).
            guide: (N, C + context, H, W): what queries come from, and the context, whose regions are the keys.

        Returns:
            (N, C, H, W).
        """
        height, width = values.shape[2:]
        larger = _resized_size(height, width, self.kernel_size)
        if larger is not None:
            values, guide = (F.interpolate(x, larger, mode='bilinear') for x in (values, guide))
        small, large = self._kernels(guide)
        halves = values.chunk(2, dim=1)
        mixed = torch.cat(
            [
                self.gather(small.to(values.dtype), halves[0], self.small_kernel),
                self.gather(large.to(values.dtype), halves[1], self.kernel_size),
            ],
            dim=1,
        )
        return mixed if larger is None else F.adaptive_avg_pool2d(mixed, (height, width))

    def _kernels(self, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Both kernels of each pixel, (N, G, H, W, S^2) and (N, G, H, W, K^2), each of sum 1."""
        source, context = guide.split([self.channels, guide.shape[1] - self.channels], dim=1)
        query = self.query_norm(self.query(source))
        key = self.key_norm(self.key(F.adaptive_avg_pool2d(context, REGIONS)))
        height, width = guide.shape[2:]
        with without_autocast(guide.device.type):
            dtype = torch.promote_types(guide.dtype, torch.float32)
            # the linear map of the products is that of the keys: fewer keys than pixels
            query, key = (x.to(dtype).flatten(2).unflatten(1, (self.heads, -1)) for x in (query, key))
            key = F.linear(key, self.weight_proj.weight.to(dtype)) * (self.channels / self.heads) ** -0.5
            logits = query.transpose(2, 3) @ key + self.weight_proj.bias.to(dtype)
            logits = logits.unflatten(2, (height, width))
            taps = [self.small_kernel**2, self.kernel_size**2]
            small, large = logits.split(taps, dim=4)
            small = small + relative_bias(self.small_bias.to(dtype), height, width, self.small_kernel)
            large = large + relative_bias(self.large_bias.to(dtype), height, width, self.kernel_size)
            return small.softmax(4), large.softmax(4)

    def extra_repr(self) -> str:
        """Channels, heads and kernels."""
        return f'{self.channels}, heads={self.heads}, kernel_size={self.kernel_size}, small_kernel={self.small_kernel}'


def _resized_size(height: int, width: int, kernel_size: int) -> tuple[int, int] | None:
    """The size at which K fits the shorter side, the authors' rounding of the longer one kept at least at K."""
    if height >= kernel_size and width >= kernel_size:
        return None
    if height < width:
        return kernel_size, max(int(kernel_size / height * width), kernel_size)
    return max(int(kernel_size / width * height), kernel_size), kernel_size
