"""The window mixer of WBMM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ...ops import window_conv2d
from ...utils.checks import check_int, check_odd, check_sequence
from ..norm import batch_norm_scale_and_shift, build_branch_norm, check_branch_norm_cfg
from .depthwise import DepthwiseConv


class WindowConv(DepthwiseConv):
    """x plus a matrix product within each window of w x w pixels (WBMM, arXiv 2607.02097).

    The product is with a table of relative positions, which is a depthwise kernel of 2 w - 1 taps a side that sees
    zeros outside of the window (:func:`~pelk_mm.ops.window_conv2d`). Windows are contiguous and never shifted. With
    parallel kernels it is BN(x + product) + the sum of BN(k x k), each k x k kernel inside the windows too, so that the
    merged form computes the same on maps of every size. Their authors skip those branches, and every BN, on maps that
    are not exactly one window.

    Args:
        channels: C.
        window_size: w.
        parallel_kernels: Sizes k of parallel kernels, odd, different, at most 2 w - 1; none by default.
        conv_ratio: Share of channels that are mixed, in (0, 1]; WBMM mixes all of them.
        norm_cfg: BatchNorm of each branch, where there are several: ``dict(type='BN' | 'SyncBN')``.

    Attributes:
        kernel_size: 2 w - 1.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    shift_invariant = False

    def __init__(
        self,
        channels: int,
        window_size: int = 7,
        *,
        parallel_kernels: Sequence[int] = (),
        conv_ratio: float = 1.0,
        norm_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        check_int('window_size', window_size, 1)
        check_sequence('parallel_kernels', parallel_kernels)
        for size in parallel_kernels:
            check_odd('every entry of parallel_kernels', size)
            if size > 2 * window_size - 1 or parallel_kernels.count(size) > 1:
                raise ValueError(
                    f'parallel_kernels must be different, and at most {2 * window_size - 1} for '
                    f'window_size={window_size}, but got {tuple(parallel_kernels)}'
                )
        super().__init__(channels, 2 * window_size - 1, conv_ratio=conv_ratio)
        self.window_size, self.parallel_kernels = window_size, tuple(parallel_kernels)
        norm_cfg = check_branch_norm_cfg(norm_cfg)
        self.norm: _BatchNorm | None = build_branch_norm(norm_cfg, self.conv_channels) if parallel_kernels else None
        for size in self.parallel_kernels:
            weight = nn.Parameter(torch.empty(self.conv_channels, 1, size, size))
            setattr(self, f'parallel_weight_k{size}', weight)
            setattr(self, f'parallel_norm_k{size}', build_branch_norm(norm_cfg, self.conv_channels))
        self.reset_parameters()

    @classmethod
    def from_pelk(cls, channels: int, kernel_size: int, *, conv_ratio: float, window_size: int) -> WindowConv:
        """``kernel_size`` is not read: windows have a size of their own, the same in every stage."""
        return cls(channels, window_size, conv_ratio=conv_ratio)

    def branches(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The sum of the branches on (N, g, H, W), same shape."""
        out = x + window_conv2d(x, self.weight, self.window_size)
        if self.norm is None:
            return out
        out = self.norm(out)
        for size in self.parallel_kernels:
            weight, norm = self._parallel(size)
            out = out + norm(window_conv2d(x, self._in_table(weight), self.window_size))
        return out

    def deployed_branch(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The merged product with its bias on (N, g, H, W), same shape."""
        return window_conv2d(x, self.weight, self.window_size, self.bias)

    def dense_kernel(self) -> Tensor:
        """The table as what the channels are correlated with, on average over the places of a pixel in its window.

        (g, K, K): each tap times the share of pixels whose neighbour at its distance is in their window. Before
        deployment x itself is in it too.
        """
        table = self.weight if self.deployed else self._with_identity(self.weight)
        distances = torch.arange(1 - self.window_size, self.window_size, device=table.device).abs()
        share = (self.window_size - distances) / self.window_size
        return table.squeeze(1) * torch.outer(share, share).to(table.dtype)

    def _merge(self) -> None:
        merged, bias = self._with_identity(self.weight.double()), torch.zeros_like(self.weight[:, 0, 0, 0]).double()
        if self.norm is not None:
            scale, bias = batch_norm_scale_and_shift(self.norm)
            merged = merged * scale[:, None, None, None]
            self.norm = None
        for size in self.parallel_kernels:
            weight, norm = self._parallel(size)
            scale, shift = batch_norm_scale_and_shift(norm)
            merged += self._in_table(weight.double() * scale[:, None, None, None])
            bias = bias + shift
            delattr(self, f'parallel_weight_k{size}')
            delattr(self, f'parallel_norm_k{size}')
        old = self.weight
        self.weight, self.bias = (
            nn.Parameter(value.to(old.dtype), requires_grad=old.requires_grad) for value in (merged, bias)
        )

    def _with_identity(self, table: Tensor) -> Tensor:
        middle = torch.zeros_like(table[:1])
        middle[..., self.window_size - 1, self.window_size - 1] = 1
        return table + middle

    def _in_table(self, weight: Tensor) -> Tensor:
        """A k x k kernel in the middle of zeros."""
        return F.pad(weight, [(self.kernel_size - weight.shape[-1]) // 2] * 4)

    def _parallel(self, size: int) -> tuple[nn.Parameter, _BatchNorm]:
        return getattr(self, f'parallel_weight_k{size}'), getattr(self, f'parallel_norm_k{size}')

    def extra_repr(self) -> str:
        """Channels, window and form."""
        return (
            f'{self.channels}, conv_channels={self.conv_channels}, window_size={self.window_size}, '
            f'deployed={self.deployed}'
        )
