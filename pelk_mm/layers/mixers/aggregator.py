"""The receptive field aggregator of UniConvNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...utils.checks import check_int
from ..depthwise_conv2d import DepthwiseConv2d
from ..norm import build_activation, build_norm
from .base import UnmergedMixer

#: Kernels of the three steps.
KERNELS = (7, 9, 11)


class ReceptiveFieldAggregator(UnmergedMixer):
    """Three gated depthwise convolutions of 7, 9 and 11, on ever more channels (UniConvNet, arXiv 2508.09000).

    The normed input is split in four; each step takes a further quarter beside what the steps before made of theirs.
    It is no convolution: gates multiply.

    Args:
        channels: C, a multiple of 4.
        norm_cfg: Norm of the input, and between the steps.
        act_cfg: Activation before each large kernel.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    shift_invariant = False

    def __init__(self, channels: int, *, norm_cfg: Mapping[str, Any], act_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        check_int('channels', channels, 1)
        if channels % 4:
            raise ValueError(f'channels of a receptive field aggregator must be a multiple of 4, but got {channels}')
        self.channels, self.kernel_size = channels, max(KERNELS)
        quarter = channels // 4
        self.norms = nn.ModuleList(build_norm(norm_cfg, width) for width in (channels, 2 * quarter, 3 * quarter))
        self.steps = nn.ModuleList(
            AggregationStep(i * quarter, quarter, kernel, act_cfg) for i, kernel in enumerate(KERNELS, start=1)
        )

    def forward(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        """Mix tokens.

        Args:
            x: (N, C, H, W).
            pos_embed: None: this mixer reads no embedding.

        Returns:
            (N, C, H, W).

        Raises:
            ValueError: Another channel count, or an embedding.
        """
        self.check_input(x)
        self.refuse_pos_embed(pos_embed)
        known, *quarters = self.norms[0](x).chunk(4, dim=1)
        for i, (step, fresh) in enumerate(zip(self.steps, quarters, strict=True)):
            known = step(known if i == 0 else self.norms[i](known), fresh)
        return known


class AggregationStep(nn.Module):
    """[DW3(P u) + P' a, P(a * P z)] with a = DW_k(act(P z)), P being biased 1 x 1 convolutions.

    P' is none where the widths of z and u agree.

    Args:
        known: Channels of z.
        fresh: Channels of u.
        kernel_size: k.
        act_cfg: The activation.
    """

    def __init__(self, known: int, fresh: int, kernel_size: int, act_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.context_in = nn.Conv2d(known, known, kernel_size=1)
        self.act = build_activation(act_cfg)
        self.context = DepthwiseConv2d(known, kernel_size)
        self.value = nn.Conv2d(known, known, kernel_size=1)
        self.product = nn.Conv2d(known, known, kernel_size=1)
        self.fresh_in = nn.Conv2d(fresh, fresh, kernel_size=1)
        self.fresh = DepthwiseConv2d(fresh, 3)
        self.context_out = nn.Identity() if known == fresh else nn.Conv2d(known, fresh, kernel_size=1)

    def forward(self, known: Tensor, fresh: Tensor) -> Tensor:
        """(N, known, H, W) and (N, fresh, H, W) to (N, known + fresh, H, W)."""
        context = self.context(self.act(self.context_in(known)))
        product = self.product(context * self.value(known))
        return torch.cat([self.fresh(self.fresh_in(fresh)) + self.context_out(context), product], dim=1)
