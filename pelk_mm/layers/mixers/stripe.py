"""The stripe mixer of SLaK: a tall and a wide kernel instead of a square one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...ops import depthwise_conv2d
from ..norm import batch_norm_scale_and_shift, build_branch_norm
from .base import in_square
from .pos_embed import PosEmbed, PosEmbedConv, visible_map


class StripeConv(PosEmbedConv):
    """BN(K x n) + BN(n x K) + BN(n x n) depthwise convolutions (SLaK, arXiv 2207.03620, section 4), n = 5.

    Where an embedding h is read, each stripe reads the part of h that lies under it (ours: SLaK has none).

    Args:
        channels: C.
        kernel_size: K, the stripes' length, odd.
        conv_ratio: Share of channels that are convolved, in (0, 1]; SLaK convolves all of them.
        small_kernel: n, the stripes' width and the size of the parallel kernel, odd, at most K.
        norm_cfg, pos_embed: As for :class:`PosEmbedConv`.

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
        conv_ratio: float = 1.0,
        small_kernel: int = 5,
        norm_cfg: Mapping[str, Any] | None = None,
        pos_embed: PosEmbed | None = None,
    ) -> None:
        if small_kernel is None:
            raise ValueError("small_kernel must be the stripes' width, an odd number such as 5, but got None")
        super().__init__(
            channels,
            kernel_size,
            conv_ratio=conv_ratio,
            small_kernel=small_kernel,
            norm_cfg=norm_cfg,
            pos_embed=pos_embed,
        )
        g, width = self.conv_channels, small_kernel
        self.tall_weight = nn.Parameter(torch.empty(g, 1, kernel_size, width))
        self.tall_norm = build_branch_norm(self.branch_norm_cfg, g)
        self.wide_weight = nn.Parameter(torch.empty(g, 1, width, kernel_size))
        self.wide_norm = build_branch_norm(self.branch_norm_cfg, g)
        self.small_weight = nn.Parameter(torch.empty(g, 1, width, width))
        self.small_norm = build_branch_norm(self.branch_norm_cfg, g)
        self.reset_parameters()

    @classmethod
    def from_pelk(
        cls,
        channels: int,
        kernel_size: int,
        *,
        conv_ratio: float,
        small_kernel: int,
        branch_norm_cfg: Mapping[str, Any],
        pos_embed: PosEmbed | None,
    ) -> StripeConv:
        """``small_kernel`` is n, the width of the stripes."""
        return cls(
            channels,
            kernel_size,
            conv_ratio=conv_ratio,
            small_kernel=small_kernel,
            norm_cfg=branch_norm_cfg,
            pos_embed=pos_embed,
        )

    def branches(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The three branches, each behind its BatchNorm, on (N, g, H, W), same shape."""
        small = self.small_norm(depthwise_conv2d(x, self.small_weight))
        tall = self.tall_norm(self._stripe(x, self.tall_weight, pos_embed))
        return tall + self.wide_norm(self._stripe(x, self.wide_weight, pos_embed)) + small

    def deployed_branch(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The two merged stripes [+ h] on (N, g, H, W), same shape."""
        bias: Tensor = self.bias
        if pos_embed is not None:
            bias = self._cached_map(
                pos_embed,
                (self.pos_weight, self.wide_weight, self.bias),
                lambda: (
                    visible_map(self._under(self.pos_weight, pos_embed), x, self.bias)
                    + visible_map(self._under(self.wide_weight, pos_embed), x)
                ),
                x,
            )
        return depthwise_conv2d(x, self.tall_weight, bias) + depthwise_conv2d(x, self.wide_weight)

    def dense_kernel(self) -> Tensor:
        """The cross of both stripes, (g, K, K); the small kernel is in it once deployed."""
        return in_square(self.tall_weight, self.kernel_size) + in_square(self.wide_weight, self.kernel_size)

    def _stripe(self, x: Tensor, weight: Tensor, pos_embed: Tensor | None) -> Tensor:
        if pos_embed is None:
            return depthwise_conv2d(x, weight)
        product = self._under(weight, pos_embed)
        bias = product.sum((1, 2)) if self.pos_embed == 'bias' else visible_map(product, x)
        return depthwise_conv2d(x, weight, bias)

    def _under(self, weight: Tensor, pos_embed: Tensor) -> Tensor:
        """(g, kh, kw): a stripe's weights times the part of h under it."""
        top, left = ((self.kernel_size - size) // 2 for size in weight.shape[2:])
        return weight.squeeze(1) * pos_embed[:, top : top + weight.shape[2], left : left + weight.shape[3]]

    @torch.no_grad()
    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Fold the BatchNorms into the stripes and the small kernel into the tall one, in place; idempotent.

        A 'visible' h stays with its stage, and ``pos_weight`` keeps the tall stripe's share that it multiplies; a
        'bias' h goes into ``bias`` for good.

        Args:
            pos_embed: h, needed where the mixer reads it as 'bias'.

        Raises:
            ValueError: A 'bias' mixer got no h.
        """
        if self.deployed:
            return
        dtype, trainable = self.tall_weight.dtype, self.tall_weight.requires_grad
        norms = (self.tall_norm, self.wide_norm, self.small_norm)
        scales, shifts = zip(*map(batch_norm_scale_and_shift, norms), strict=True)
        weights = (self.tall_weight, self.wide_weight, self.small_weight)
        tall, wide, small = (
            weight.double() * scale[:, None, None, None] for weight, scale in zip(weights, scales, strict=True)
        )
        bias = sum(shifts, torch.zeros_like(shifts[0]))
        if self.pos_embed == 'bias':
            self._check_pos_embed(pos_embed)
            assert pos_embed is not None
            for stripe in (tall, wide):
                bias = bias + self._under(stripe, pos_embed.double()).sum((1, 2))
            self.pos_embed = None
        margin = (tall.shape[2] - small.shape[2]) // 2
        merged = tall + F.pad(small, (0, 0, margin, margin))
        del self.small_weight, self.small_norm, self.tall_norm, self.wide_norm
        self.tall_weight = nn.Parameter(merged.to(dtype), requires_grad=trainable)
        self.wide_weight = nn.Parameter(wide.to(dtype), requires_grad=trainable)
        self.bias = nn.Parameter(bias.to(dtype), requires_grad=trainable)
        if self.pos_embed == 'visible':
            self.pos_weight = nn.Parameter(tall.to(dtype), requires_grad=trainable)
        self.deployed = True
