"""WTConv and ContMix as their authors' torch code has them: what the forms of this package are measured against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers import WaveletConv
from ...layers.contmix import ContMix
from ...ops.neighbourhood import window_starts
from ...ops.wavelet import BANDS


def grouped_wavelet_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    level_weights: Sequence[Tensor],
    level_scales: Sequence[Tensor | None],
) -> Tensor:
    """:func:`~pelk_mm.ops.wavelet_conv2d` with strided grouped convolutions for the transforms, scales on the maps."""
    channels = x.shape[1]
    signs = x.new_tensor([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    haar = (signs / 2).view(BANDS, 1, 2, 2).repeat(channels, 1, 1, 1)
    mean, sizes, filtered = x, [], []
    for kernel, factor in zip(level_weights, level_scales, strict=True):
        sizes.append(mean.shape[2:])
        padded = F.pad(mean, (0, mean.shape[3] % 2, 0, mean.shape[2] % 2))
        bands = F.conv2d(padded, haar, stride=2, groups=channels)
        mean = bands.unflatten(1, (channels, BANDS))[:, :, 0]
        filtered.append(_scaled(_same(bands, kernel), factor))
    below: Tensor | int = 0
    for bands, size in zip(reversed(filtered), reversed(sizes), strict=True):
        bands = bands.unflatten(1, (channels, BANDS))
        bands = torch.cat(
            [bands[:, :, :1] + (below[:, :, None] if isinstance(below, Tensor) else 0), bands[:, :, 1:]], 2
        )
        below = F.conv_transpose2d(bands.flatten(1, 2), haar, stride=2, groups=channels)[..., : size[0], : size[1]]
    return _scaled(_same(x, weight, bias), scale) + below


def unfolded_gather(attention: Tensor, value: Tensor, kernel_size: int) -> Tensor:
    """:func:`~pelk_mm.ops.neighbourhood_gather` on a copy of every window."""
    groups, (height, width) = attention.shape[1], value.shape[2:]
    taps = torch.arange(kernel_size, device=value.device)
    rows = window_starts(height, kernel_size, value.device)[:, None, None, None] + taps[:, None]
    columns = window_starts(width, kernel_size, value.device)[:, None, None] + taps
    places = (rows * width + columns).reshape(height * width, kernel_size**2)
    windows = value.reshape(value.shape[0], groups, -1, height * width)[..., places]
    return torch.einsum('ngpk,ngcpk->ngcp', attention.flatten(2, 3), windows).reshape(value.shape)


class GroupedWaveletConv(WaveletConv):
    """:class:`WaveletConv` by :func:`grouped_wavelet_conv2d`."""

    def branches(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """(N, g, H, W) to the same shape."""
        levels = (self._level('weight'), self._level('scale'))
        return grouped_wavelet_conv2d(x, self.weight, self.bias, self.scale, *levels)

    def deployed_branch(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """(N, g, H, W) to the same shape."""
        weights = self._level('weight')
        return grouped_wavelet_conv2d(x, self.weight, self.bias, None, weights, [None] * len(weights))


class UnfoldedContMix(ContMix):
    """:class:`ContMix` by :func:`unfolded_gather`."""

    gather = staticmethod(unfolded_gather)


def in_plain_form(net: nn.Module) -> nn.Module:
    """Change a net's wavelet mixers and ContMix, in place, into the plain forms; all else stays."""
    for module in net.modules():
        if type(module) is WaveletConv:
            module.__class__ = GroupedWaveletConv
        elif type(module) is ContMix:
            module.__class__ = UnfoldedContMix
    return net


def _same(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=x.shape[1])


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale[:, None, None]
