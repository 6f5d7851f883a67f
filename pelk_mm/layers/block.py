"""Residual blocks around any token mixer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..ops.tracing import compiling
from .drop_path import DropPath
from .fold import fold_before
from .mixers.base import TokenMixer
from .norm import LayerNorm2d, batch_norm_scale_and_shift, build_activation, build_norm


class ResidualBlock(nn.Module):
    """x + DropPath(gamma * branch(mixer(x))): what every block of the package shares. A block gives :meth:`branch`.

    Args:
        mixer: What mixes the tokens.
        channels: C.
        drop_path_rate: Stochastic depth.
        layer_scale_init_value: Initial gamma; 0 for no layer scale.
        with_cp: Recompute the block in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        mixer: TokenMixer,
        channels: int,
        *,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.mixer = mixer
        self.gamma = (
            nn.Parameter(torch.full((channels,), float(layer_scale_init_value))) if layer_scale_init_value > 0 else None
        )
        self.drop_path = DropPath(drop_path_rate)
        self.with_cp = with_cp

    def branch(self, mixed: Tensor) -> Tensor:
        """What follows the mixer, layer scale included, (N, C, H, W) to the same shape."""
        raise NotImplementedError

    def forward(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to the same shape; ``pos_embed`` is the stage's h for mixers that read one."""
        if self.with_cp and torch.is_grad_enabled():
            return _checkpointed(self, x, pos_embed)
        return self._forward(x, pos_embed)

    def _forward(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        mixed = self.mixer(x) if pos_embed is None else self.mixer(x, pos_embed)
        return x + self.drop_path(self.branch(mixed))

    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Merge what can be merged in place; idempotent, the evaluated output stays within rounding."""
        self.mixer.switch_to_deploy(pos_embed)


class LargeKernelBlock(ResidualBlock):
    """x + DropPath(gamma * Linear(act(Linear(norm(mixer(x)))))), of ConvNeXt, SLaK and PeLK (PeLK, section 4.4).

    Args:
        mixer: What mixes the tokens.
        channels: C.
        norm_cfg, act_cfg: Norm behind the mixer, activation between the linears.
        mlp_ratio: Hidden over outer channels.
        **kwargs: ``drop_path_rate``, ``layer_scale_init_value``, ``with_cp`` of :class:`ResidualBlock`.
    """

    def __init__(
        self,
        mixer: TokenMixer,
        channels: int,
        *,
        norm_cfg: Mapping[str, Any],
        act_cfg: Mapping[str, Any],
        mlp_ratio: float = 4.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(mixer, channels, **kwargs)
        self.norm = build_norm(norm_cfg, channels)
        hidden = int(mlp_ratio * channels)
        self.pointwise_conv1 = nn.Linear(channels, hidden)
        self.act = build_activation(act_cfg)
        self.pointwise_conv2 = nn.Linear(hidden, channels)

    def branch(self, mixed: Tensor) -> Tensor:
        """Norm and the two scaled linears, (N, C, H, W) to the same shape."""
        if isinstance(self.norm, LayerNorm2d):
            mixed = self.norm.forward_channels_last(mixed.permute(0, 2, 3, 1))
        else:
            mixed = self.norm(mixed).permute(0, 2, 3, 1)
        mixed = self._scaled_projection(self.act(self.pointwise_conv1(mixed)))
        return mixed.permute(0, 3, 1, 2)

    def _scaled_projection(self, hidden: Tensor) -> Tensor:
        """gamma * pointwise_conv2(hidden), (N, H, W, hidden) to (N, H, W, C)."""
        linear, gamma = self.pointwise_conv2, self.gamma
        if gamma is None:
            return linear(hidden)
        # Scaling the weights instead of the output saves the backward pass a whole activation; not where they are the
        # larger of the two, and not in float16, where gamma's first values times a weight are zero.
        if self.training and hidden.numel() > hidden.shape[-1] ** 2 and hidden.dtype != torch.float16:
            return F.linear(hidden, linear.weight * gamma[:, None], linear.bias * gamma)
        return linear(hidden) * gamma

    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Merge the mixer, and a BatchNorm behind it into the first linear, in place; idempotent."""
        super().switch_to_deploy(pos_embed)
        if isinstance(self.norm, _BatchNorm):
            fold_before(self.pointwise_conv1, *batch_norm_scale_and_shift(self.norm))
            self.norm = nn.Identity()


def _checkpointed(block: ResidualBlock, x: Tensor, pos_embed: Tensor | None) -> Tensor:
    """Run a block under the non-reentrant checkpoint; its recomputation must not count a batch twice."""
    if compiling():  # it recomputes without the norms' updates, and cannot trace a state of ours
        return checkpoint(block._forward, x, pos_embed, use_reentrant=False)
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm)]
    first = True

    def run(x: Tensor, pos_embed: Tensor | None) -> Tensor:
        nonlocal first
        if first:
            first = False
            return block._forward(x, pos_embed)
        with _FrozenStatistics(norms):
            return block._forward(x, pos_embed)

    return checkpoint(run, x, pos_embed, use_reentrant=False)


class _FrozenStatistics:
    """Keeps BatchNorms normalising by batch statistics while their running statistics stand still."""

    def __init__(self, norms: list[_BatchNorm]) -> None:
        self.norms = [norm for norm in norms if norm.training and norm.track_running_stats]

    def __enter__(self) -> None:
        self.kept = [(norm.momentum, cast(Tensor, norm.num_batches_tracked).clone()) for norm in self.norms]
        for norm in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *exc: object) -> None:
        for norm, (momentum, batches) in zip(self.norms, self.kept, strict=True):
            norm.momentum = momentum
            cast(Tensor, norm.num_batches_tracked).copy_(batches)
