"""The dilated re-parameterisation mixer of UniRepLKNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ...ops import depthwise_conv2d
from ...ops.tracing import exporting
from ...utils.checks import check_odd
from ..norm import batch_norm_scale_and_shift, build_branch_norm, check_branch_norm_cfg
from .depthwise import DepthwiseConv

#: (kernel size, dilation) of the parallel branches of a K x K kernel.
BRANCHES: Mapping[int, tuple[tuple[int, int], ...]] = {
    5: ((3, 1), (3, 2)),
    7: ((5, 1), (3, 2), (3, 3)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}


class DilatedReparamConv(DepthwiseConv):
    """BN(K x K) + the sum of BN(k_i x k_i dilated by r_i), all depthwise (UniRepLKNet, arXiv 2311.15599, section 3.2).

    Which k_i and r_i go with K is in :data:`BRANCHES`; a kernel above 17 takes those of 17 (ours: the authors stop
    there). A branch's weights are ``dilated_weight_k{k}_r{r}``, its BatchNorm ``dilated_norm_k{k}_r{r}``.

    Args:
        channels: C.
        kernel_size: K, odd, at least 5.
        conv_ratio: Share of channels that are convolved, in (0, 1]; UniRepLKNet convolves all of them.
        norm_cfg: BatchNorm behind each branch: ``dict(type='BN' | 'SyncBN')``; deployment folds it away.
        dilations: (k_i, r_i) of each branch, instead of those of :data:`BRANCHES`; each at most K wide.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        conv_ratio: float = 1.0,
        norm_cfg: Mapping[str, Any] | None = None,
        dilations: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        check_odd('kernel_size', kernel_size)
        if kernel_size < min(BRANCHES):
            raise ValueError(f'kernel_size of a dilated mixer must be at least {min(BRANCHES)}, but got {kernel_size}')
        super().__init__(channels, kernel_size, conv_ratio=conv_ratio)
        self.branch_norm_cfg = check_branch_norm_cfg(norm_cfg)
        self.norm = build_branch_norm(self.branch_norm_cfg, self.conv_channels)
        self.dilations = BRANCHES[min(kernel_size, max(BRANCHES))] if dilations is None else tuple(dilations)
        for size, dilation in self.dilations:
            weight = nn.Parameter(torch.empty(self.conv_channels, 1, size, size))
            norm = build_branch_norm(self.branch_norm_cfg, self.conv_channels)
            setattr(self, f'dilated_weight_k{size}_r{dilation}', weight)
            setattr(self, f'dilated_norm_k{size}_r{dilation}', norm)
        self.reset_parameters()

    @classmethod
    def from_pelk(
        cls, channels: int, kernel_size: int, *, conv_ratio: float, branch_norm_cfg: Mapping[str, Any]
    ) -> DilatedReparamConv:
        """Parallel kernels of its own stand in place of ``small_kernel``."""
        return cls(channels, kernel_size, conv_ratio=conv_ratio, norm_cfg=branch_norm_cfg)

    def branches(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The sum of the branches, each behind its BatchNorm, on (N, g, H, W), same shape."""
        out = self.norm(depthwise_conv2d(x, self.weight))
        for size, dilation in self.dilations:
            weight, norm = self._branch(size, dilation)
            padding = (size - 1) * dilation // 2
            branch = F.conv2d(x, weight, padding=padding, dilation=dilation, groups=self.conv_channels)
            # as the back-ends do: layouts that differ, summed, would tie an exported graph to some of the sizes
            out = out + norm(branch.contiguous() if exporting() else branch)
        return out

    def _branch(self, size: int, dilation: int) -> tuple[nn.Parameter, _BatchNorm]:
        suffix = f'k{size}_r{dilation}'
        return getattr(self, f'dilated_weight_{suffix}'), getattr(self, f'dilated_norm_{suffix}')

    def _merge(self) -> None:
        scale, bias = batch_norm_scale_and_shift(self.norm)
        merged = self.weight.double() * scale[:, None, None, None]
        for size, dilation in self.dilations:
            weight, norm = self._branch(size, dilation)
            scale, shift = batch_norm_scale_and_shift(norm)
            first = (self.kernel_size - (size - 1) * dilation) // 2
            taps = slice(first, first + (size - 1) * dilation + 1, dilation)
            merged[:, :, taps, taps] += weight.double() * scale[:, None, None, None]
            bias = bias + shift
            delattr(self, f'dilated_weight_k{size}_r{dilation}')
            delattr(self, f'dilated_norm_k{size}_r{dilation}')
        del self.norm
        dtype, trainable = self.weight.dtype, self.weight.requires_grad
        self.weight = nn.Parameter(merged.to(dtype), requires_grad=trainable)
        self.bias = nn.Parameter(bias.to(dtype), requires_grad=trainable)
