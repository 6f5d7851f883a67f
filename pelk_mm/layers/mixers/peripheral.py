"""The peripheral token mixer of PeLK: large shared kernel, parallel small kernel, partial channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...ops import SharingGrid, depthwise_conv2d, peripheral_conv2d
from ...utils.checks import check_odd
from ..norm import batch_norm_scale_and_shift, build_branch_norm
from .pos_embed import PosEmbed, PosEmbedConv, visible_map


class PeripheralConv2d(PosEmbedConv):
    """Partial peripheral convolution with its two BatchNorm branches (PeLK, arXiv 2403.07589, sections 4.1 to 4.3).

    The first ``g = int(conv_ratio * channels)`` channels become BN(peripheral K x K [+ positional term]) + BN(small
    depthwise kernel); the others pass unchanged. The parallel small kernel and its BatchNorm are decision D4 of
    ``docs/paper/decisions.md``.

    Args:
        channels: C.
        kernel_size: K, odd.
        central_size: Unit-cell centre of the paper's grid. Ignored where ``grid`` is given.
        grid: A :class:`SharingGrid` (or its sizes) instead of the paper's.
        conv_ratio, small_kernel, norm_cfg, pos_embed: As for :class:`PosEmbedConv`.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    #: These two are there once deployed, ``pos_weight`` where h is read as 'visible'.
    bias: nn.Parameter
    pos_weight: nn.Parameter

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        central_size: int = 5,
        grid: SharingGrid | Sequence[int] | None = None,
        conv_ratio: float = 3 / 8,
        small_kernel: int | None = 5,
        norm_cfg: Mapping[str, Any] | None = None,
        pos_embed: PosEmbed | None = None,
    ) -> None:
        grid = resolve_grid(kernel_size, central_size, grid)
        super().__init__(
            channels,
            kernel_size,
            conv_ratio=conv_ratio,
            small_kernel=small_kernel,
            norm_cfg=norm_cfg,
            pos_embed=pos_embed,
        )
        self.grid = grid
        k = self.grid.num_segments
        self.w_theta = nn.Parameter(torch.empty(self.conv_channels, k, k))
        self.norm = build_branch_norm(self.branch_norm_cfg, self.conv_channels)
        if small_kernel is not None:
            self.small_weight = nn.Parameter(torch.empty(self.conv_channels, 1, small_kernel, small_kernel))
            self.small_norm = build_branch_norm(self.branch_norm_cfg, self.conv_channels)
        self.reset_parameters()

    @classmethod
    def from_pelk(
        cls,
        channels: int,
        kernel_size: int,
        *,
        central_size: int,
        grid: SharingGrid | Sequence[int] | None,
        conv_ratio: float,
        small_kernel: int | None,
        branch_norm_cfg: Mapping[str, Any],
        pos_embed: PosEmbed | None,
    ) -> PeripheralConv2d:
        """PeLK's own mixer: the arguments mean the same."""
        return cls(
            channels,
            kernel_size,
            central_size=central_size,
            grid=grid,
            conv_ratio=conv_ratio,
            small_kernel=small_kernel,
            norm_cfg=branch_norm_cfg,
            pos_embed=pos_embed,
        )

    def branches(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """BN(peripheral [+ h]) + BN(small) on (N, g, H, W), same shape."""
        bias = None
        if pos_embed is not None:
            bias = self._bias_of(pos_embed) if self.pos_embed == 'bias' else self._pos_map(self.w_theta, pos_embed, x)
        large = self.norm(peripheral_conv2d(x, self.w_theta, self.grid, bias))
        if self.small_kernel is None:
            return large
        return large + self.small_norm(depthwise_conv2d(x, self.small_weight))

    def deployed_branch(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The merged peripheral convolution [+ h] on (N, g, H, W), same shape."""
        bias: Tensor = self.bias
        if pos_embed is not None:
            weights = (self.pos_weight, self.bias)
            bias = self._cached_map(
                pos_embed, weights, lambda: self._pos_map(self.pos_weight, pos_embed, x, self.bias), x
            )
        return peripheral_conv2d(x, self.w_theta, self.grid, bias)

    def dense_kernel(self) -> Tensor:
        """What ``w_theta`` expands to, (g, K, K); the small kernel is in it once deployed."""
        return self.grid.expand(self.w_theta).squeeze(1)

    def _pos_map(self, weight: Tensor, pos_embed: Tensor, like: Tensor, bias: Tensor | None = None) -> Tensor:
        """(g, H, W): at each pixel of ``like``, the sum of w * h over the visible part of the kernel [+ bias]."""
        kernel = self.grid.expand(weight).squeeze(1)
        return visible_map(self._within_reach(kernel, like) * self._within_reach(pos_embed, like), like, bias)

    def _bias_of(self, pos_embed: Tensor) -> Tensor:
        """(g,): the sum of w * h over all K x K positions."""
        return (self.w_theta * self.grid.pool(pos_embed.unsqueeze(1))).sum((1, 2))

    @torch.no_grad()
    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Fold both BatchNorms and the small kernel into ``w_theta`` and ``bias``, in place; idempotent.

        The merge is exact in k' x k' form: where the small kernel is wider than the grid's unit cells, the grid
        becomes their common refinement. A 'visible' h stays with its stage, and ``pos_weight`` keeps the share of
        ``w_theta`` that it multiplies; a 'bias' h goes into ``bias`` for good.

        Args:
            pos_embed: h, needed where the mixer reads it as 'bias'.

        Raises:
            ValueError: A 'bias' mixer got no h.
        """
        if self.deployed:
            return
        dtype, trainable = self.w_theta.dtype, self.w_theta.requires_grad
        scale, bias = batch_norm_scale_and_shift(self.norm)
        if self.pos_embed == 'bias':
            self._check_pos_embed(pos_embed)
            assert pos_embed is not None
            bias = bias + scale * self._bias_of(pos_embed).double()
            self.pos_embed = None
        large = self.grid.expand(self.w_theta.double() * scale[:, None, None])
        merged = large
        if self.small_kernel is not None:
            small_scale, small_bias = batch_norm_scale_and_shift(self.small_norm)
            margin = (self.kernel_size - self.small_kernel) // 2
            merged = large + F.pad(self.small_weight.double() * small_scale[:, None, None, None], (margin,) * 4)
            bias = bias + small_bias
            self.grid = self.grid.refine_centre(self.small_kernel)
            del self.small_weight, self.small_norm
        del self.norm
        self.w_theta = nn.Parameter(self.grid.sample(merged).to(dtype), requires_grad=trainable)
        self.bias = nn.Parameter(bias.to(dtype), requires_grad=trainable)
        if self.pos_embed == 'visible':
            self.pos_weight = nn.Parameter(self.grid.sample(large).to(dtype), requires_grad=trainable)
        self.deployed = True

    def extra_repr(self) -> str:
        """Channels, kernel, grid and form."""
        return f'{super().extra_repr()}, grid={self.grid.sizes}'


def resolve_grid(
    kernel_size: int, central_size: int = 5, grid: SharingGrid | Sequence[int] | None = None
) -> SharingGrid:
    """``grid`` as a :class:`SharingGrid` where given, else the paper's exponential one.

    Raises:
        ValueError: ``grid`` does not sum to ``kernel_size``.
    """
    check_odd('central_size', central_size)
    if grid is None:
        return SharingGrid.exponential(kernel_size, central_size)
    if not isinstance(grid, SharingGrid):
        grid = SharingGrid(grid)
    if grid.kernel_size != kernel_size:
        raise ValueError(f'grid must sum to kernel_size={kernel_size}, but {grid.sizes} sums to {grid.kernel_size}')
    return grid
