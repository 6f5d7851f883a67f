"""The block of UniConvNet: an aggregator, a deformable convolution and an MLP, each a residual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..ops import dcnv3
from .block import ResidualBlock
from .depthwise_conv2d import DepthwiseConv2d
from .mixers.aggregator import ReceptiveFieldAggregator
from .norm import build_activation, build_norm

#: Taps of a 3 x 3 deformable convolution.
TAPS = 9


class DeformableConv(nn.Module):
    """Linear, :func:`~pelk_mm.ops.dcnv3` of 3 x 3 taps, linear; offsets and masks are linear in a 3 x 3 convolution.

    As UniConvNet has it (arXiv 2508.09000): no softmax on the mask, no norm or activation behind the convolution, so
    that at the start, with zero masks, it puts out its bias.

    Args:
        channels: C.
        groups: G, a divisor of C.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.input_proj = nn.Linear(channels, channels)
        self.dw_conv = DepthwiseConv2d(channels, 3)
        self.offset = nn.Linear(channels, 2 * TAPS * groups)
        self.mask = nn.Linear(channels, TAPS * groups)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Offsets and masks 0, Xavier uniform projections, biases 0."""
        for layer in (self.offset, self.mask):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.input_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        local = self.dw_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.output_proj(dcnv3(self.input_proj(x), self.offset(local), self.mask(local)))


class UniConvBlock(ResidualBlock):
    """x + gamma * aggregator(x), then the same with a deformable convolution, then with an MLP, behind norms.

    The three have one rate of stochastic depth (UniConvNet, arXiv 2508.09000).

    Args:
        channels: C, a multiple of 4.
        groups: Of the deformable convolution, a divisor of C.
        norm_cfg, act_cfg: Norms, activations.
        mlp_ratio: Hidden over outer channels.
        **kwargs: ``drop_path_rate``, ``layer_scale_init_value``, ``with_cp`` of :class:`ResidualBlock`.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        *,
        norm_cfg: Mapping[str, Any],
        act_cfg: Mapping[str, Any],
        mlp_ratio: float = 4.0,
        layer_scale_init_value: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        mixer = ReceptiveFieldAggregator(channels, norm_cfg=norm_cfg, act_cfg=act_cfg)
        super().__init__(mixer, channels, layer_scale_init_value=layer_scale_init_value, **kwargs)
        self.deformable_norm = build_norm(norm_cfg, channels)
        self.deformable = DeformableConv(channels, groups)
        self.norm = build_norm(norm_cfg, channels)
        hidden = int(mlp_ratio * channels)
        self.pointwise_conv1 = nn.Linear(channels, hidden)
        self.act = build_activation(act_cfg)
        self.pointwise_conv2 = nn.Linear(hidden, channels)
        self.deformable_gamma, self.mlp_gamma = (
            nn.Parameter(torch.full_like(self.gamma, layer_scale_init_value)) if self.gamma is not None else None
            for _ in range(2)
        )

    def _forward(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        mixed = self.mixer(x) if pos_embed is None else self.mixer(x, pos_embed)
        x = self._add(x, _scaled(mixed, self.gamma))
        mixed = self.deformable(self.deformable_norm(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self._add(x, _scaled(mixed, self.deformable_gamma))
        mixed = self.pointwise_conv2(self.act(self.pointwise_conv1(self.norm(x).permute(0, 2, 3, 1))))
        return self._add(x, _scaled(mixed.permute(0, 3, 1, 2), self.mlp_gamma))


def _scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else x * gamma[:, None, None]
