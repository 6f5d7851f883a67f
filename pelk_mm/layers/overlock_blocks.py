"""The two blocks of OverLoCK: with a static large kernel, and with kernels made from the context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .block import ResidualBlock, checkpointed
from .contmix import ContMix
from .depthwise_conv2d import DepthwiseConv2d, ResidualDepthwiseConv2d
from .drop_path import DropPath
from .grn import GlobalResponseNorm
from .mixers.dilated import DilatedReparamConv
from .norm import build_activation, build_branch_norm, build_norm
from .squeeze_excite import SqueezeExcite

#: (kernel size, dilation) of the parallel branches of a K x K kernel, which differ from UniRepLKNet's.
BRANCHES: Mapping[int, tuple[tuple[int, int], ...]] = {
    5: ((3, 1), (3, 2)),
    7: ((5, 1), (3, 1), (3, 2), (3, 3)),
    9: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (7, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    19: ((5, 1), (7, 1), (9, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}
#: What the parts of the blocks take, and get from their block.
Cfg = Mapping[str, Any]


class ChannelAffine(nn.Module):
    """scale * x + shift, each learnt for each channel of (N, C, H, W).

    Args:
        channels: C.
        initial_scale: Where the scale starts; the shift starts at 0.
    """

    def __init__(self, channels: int, initial_scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(initial_scale)))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return torch.addcmul(self.bias[:, None, None], x, self.weight[:, None, None])


class ConvMlp(nn.Module):
    """1 x 1, activation, x + 3 x 3 depthwise, GRN, 1 x 1; all biased. GRN sums in float32 at least.

    Args:
        in_channels, hidden_channels, channels: Widths.
        act_cfg: The activation.
    """

    def __init__(self, in_channels: int, hidden_channels: int, channels: int, act_cfg: Cfg) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Conv2d(in_channels, hidden_channels, kernel_size=1)
        self.act = build_activation(act_cfg)
        self.depthwise_conv = ResidualDepthwiseConv2d(hidden_channels)
        self.grn = GlobalResponseNorm(hidden_channels)
        self.pointwise_conv2 = nn.Conv2d(hidden_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H, W)."""
        x = self.depthwise_conv(self.act(self.pointwise_conv1(x)))
        return self.pointwise_conv2(_in_channels_first(self.grn, x))


class OverLoCKBlock(ResidualBlock):
    """affine(z) + DropPath(MLP(SE(BN(DR_K(LN(z)))))), z = x + DW3(x) (OverLoCK, arXiv 2502.20087, section 3.2).

    Args:
        channels: C.
        kernel_size: K of the re-parameterised kernel, a key of :data:`BRANCHES`.
        scaled_residual: Whether z is scaled and shifted by channel; otherwise it is added as it is.
        norm_cfg, branch_norm_cfg, act_cfg: LayerNorm, BatchNorms, activations.
        mlp_ratio: Hidden over outer channels.
        **kwargs: ``drop_path_rate``, ``with_cp`` of :class:`ResidualBlock`.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        scaled_residual: bool,
        norm_cfg: Cfg,
        branch_norm_cfg: Cfg,
        act_cfg: Cfg,
        mlp_ratio: float = 4.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            dilated_reparam(channels, kernel_size, branch_norm_cfg), channels, layer_scale_init_value=0, **kwargs
        )
        self.local = ResidualDepthwiseConv2d(channels)
        self.norm = build_norm(norm_cfg, channels)
        self.mixer_norm = build_branch_norm(branch_norm_cfg, channels)
        self.se = SqueezeExcite(channels, max(channels // 8, 16), act_cfg)
        self.mlp = ConvMlp(channels, int(mlp_ratio * channels), channels, act_cfg)
        self.residual = ChannelAffine(channels) if scaled_residual else nn.Identity()

    def _forward(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        x = self.local(x)
        mixed = self.norm(x)
        mixed = self.mixer(mixed) if pos_embed is None else self.mixer(mixed, pos_embed)
        return self.residual(x) + self.drop_path(self.mlp(self.se(self.mixer_norm(mixed))))


class ContMixBlock(nn.Module):
    """One block of OverLoCK's second look: features and context, O = C + context channels together.

    The context is, but in the first block, mixed with the overview again. What :class:`ContMix` makes of features and
    context, plus a static large kernel, passes a gate; an MLP follows (arXiv 2502.20087, section 3.2).

    Args:
        channels, context_channels: C and the width of the context.
        heads, kernel_size, small_kernel: Of :class:`ContMix`; K of the static kernel too.
        mixes_overview: Whether the overview enters, in all blocks but the net's first.
        norm_cfg, branch_norm_cfg, act_cfg: LayerNorms, BatchNorms, activations.
        mlp_ratio: Hidden channels over C.
        drop_path_rate: Stochastic depth.
        with_cp: Recompute the block in the backward pass instead of keeping its activations.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int,
        heads: int,
        kernel_size: int,
        small_kernel: int,
        *,
        mixes_overview: bool,
        norm_cfg: Cfg,
        branch_norm_cfg: Cfg,
        act_cfg: Cfg,
        mlp_ratio: float = 3.0,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.context_channels = channels, context_channels
        self.with_cp = with_cp
        both = channels + context_channels
        self.context_scale = ChannelAffine(context_channels) if mixes_overview else None
        self.overview_scale = ChannelAffine(context_channels) if mixes_overview else None
        self.local1 = ResidualDepthwiseConv2d(both)
        self.norm1 = build_norm(norm_cfg, both)
        self.fusion = nn.Sequential(
            DepthwiseConv2d(both),
            build_branch_norm(branch_norm_cfg, both),
            build_activation(act_cfg),
            nn.Conv2d(both, channels, kernel_size=1),
        )
        self.fusion_grn = GlobalResponseNorm(channels)
        self.gate = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.gate_norm = build_branch_norm(branch_norm_cfg, channels)
        self.mixer = dilated_reparam(channels, kernel_size, branch_norm_cfg)
        self.mixer_norm = build_branch_norm(branch_norm_cfg, channels)
        self.contmix = ContMix(channels, context_channels, heads, kernel_size, small_kernel, norm_cfg=branch_norm_cfg)
        self.contmix_out = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.contmix_norm = build_branch_norm(branch_norm_cfg, channels)
        self.se = SqueezeExcite(channels, max(channels // 8, 16), act_cfg)
        self.out_norm = build_branch_norm(branch_norm_cfg, channels)
        self.out = nn.Conv2d(channels, both, kernel_size=1)
        self.residual1, self.residual2 = ChannelAffine(both), ChannelAffine(both)
        self.local2 = ResidualDepthwiseConv2d(both)
        self.norm2 = build_norm(norm_cfg, both)
        self.mlp = ConvMlp(both, int(mlp_ratio * channels), both, act_cfg)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, context: Tensor, overview: Tensor) -> Tensor:
        """Mix.

        Args:
            x: (N, C, H, W).
            context: (N, context_channels, H, W).
            overview: The same shape.

        Returns:
            (N, C + context_channels, H, W): the features and the context for the next block.
        """
        if self.with_cp and torch.is_grad_enabled():
            return checkpointed(self, x, context, overview)
        return self._forward(x, context, overview)

    def _forward(self, x: Tensor, context: Tensor, overview: Tensor) -> Tensor:
        if self.context_scale is not None and self.overview_scale is not None:
            context = self.context_scale(context) + self.overview_scale(overview)
        x = self.local1(torch.cat([x, context], dim=1))
        guide = self.norm1(x)
        values = _in_channels_first(self.fusion_grn, self.fusion(guide))
        gate = F.silu(self.gate_norm(self.gate(values)))
        mixed = self.contmix_norm(self.contmix_out(self.contmix(values, guide))) + self.mixer_norm(self.mixer(values))
        mixed = self.out(self.out_norm(gate * self.se(mixed)))
        x = self.local2(self.residual1(x) + self.drop_path(mixed))
        return self.residual2(x) + self.drop_path(self.mlp(self.norm2(x)))

    def switch_to_deploy(self) -> None:
        """Merge the branches of the static kernel in place; idempotent."""
        self.mixer.switch_to_deploy()


def dilated_reparam(channels: int, kernel_size: int, norm_cfg: Cfg) -> DilatedReparamConv:
    """A re-parameterised kernel with the branches of :data:`BRANCHES`.

    Raises:
        ValueError: ``kernel_size`` is none of theirs.
    """
    if kernel_size not in BRANCHES:
        raise ValueError(f'kernel_size must be one of {", ".join(map(str, BRANCHES))}, but got {kernel_size!r}')
    return DilatedReparamConv(channels, kernel_size, norm_cfg=norm_cfg, dilations=BRANCHES[kernel_size])


def _in_channels_first(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm over (N, H, W, C) on (N, C, H, W)."""
    return cast(Tensor, norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
