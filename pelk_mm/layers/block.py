"""Residual blocks around any token mixer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..ops import join_norm, layout
from ..ops.tracing import autocast_active, compiling, exporting
from .drop_path import DropPath
from .fold import fold_before
from .mixers.base import TokenMixer
from .mixers.partial import PartialConv
from .norm import ACTIVATIONS, LayerNorm2d, batch_norm_scale_and_shift, build_activation, build_norm
from .padded import FEWEST_ROWS, padded_linear, padded_width
from .plain import is_plain, is_untouched


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
            return checkpointed(self, x, pos_embed)
        return self._forward(x, pos_embed)

    def _forward(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        mixed = self.mixer(x) if pos_embed is None else self.mixer(x, pos_embed)
        return self._add(x, self.branch(mixed))

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + self.drop_path(branch)

    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Merge what can be merged in place; idempotent, the evaluated output stays within rounding."""
        self.mixer.switch_to_deploy(pos_embed)


class LargeKernelBlock(ResidualBlock):
    """x + DropPath(gamma * Linear(act(Linear(norm(mixer(x)))))), of ConvNeXt, SLaK and PeLK (PeLK, section 4.4).

    On CUDA the parts of a :class:`PartialConv` and a LayerNorm behind it run through :mod:`pelk_mm.ops.layout`, with
    the residual stream channels-last; :meth:`fused_refusal` says when not. The state dict is the same.

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

    def _forward(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        if self.fused_refusal(x) is not None:
            return super()._forward(x, pos_embed)
        mixer, norm = cast(PartialConv, self.mixer), cast(LayerNorm2d, self.norm)
        mixed, passed, x = mixer.parts(x.contiguous(memory_format=torch.channels_last), pos_embed)
        widths = self._padded_widths(x)
        rows = join_norm(mixed, passed, norm.weight, norm.bias, norm.eps, widths[0] if widths else None)
        if widths:
            linear = self.pointwise_conv1
            hidden = self.act(padded_linear(rows, linear.weight, linear.bias, widths[1]))
        else:
            hidden = self.act(self.pointwise_conv1(rows))
        return self._add(x, self._scaled_projection(hidden, widths[0] if widths else None).permute(0, 3, 1, 2))

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        # under autocast a float32 gamma makes the stream float32, on top of which small branches are not lost: also
        # where gamma has gone into the weights
        if self.gamma is not None and branch.dtype != self.gamma.dtype:
            x = x.to(torch.promote_types(x.dtype, self.gamma.dtype))
        return super()._add(x, branch)

    def fused_refusal(self, x: Tensor) -> str | None:
        """Why a call on ``x`` takes stock concatenation and LayerNorm, or None where it takes the fused ones.

        What is wrong with ``x`` is a reason too: the mixer says so, as it always does.
        """
        if compiling() or exporting():  # before anything that a graph cannot hold
            return 'a graph is being taken, whose compiler fuses by itself'
        mixer, norm = self.mixer, self.norm
        if type(self).branch is not LargeKernelBlock.branch:
            return 'a subclass has a branch of its own'
        if not isinstance(mixer, PartialConv) or type(mixer).forward is not PartialConv.forward:
            return f'{type(mixer).__name__} does not give its parts'
        if not is_untouched(mixer):
            return 'a hook or a patch of the mixer wants its call'
        if not is_plain(norm, LayerNorm2d):
            return f'the norm, {type(norm).__name__}, is no LayerNorm2d, or a hook or a patch wants its call'
        weight, bias = cast('Tensor | None', norm.weight), cast('Tensor | None', norm.bias)
        if weight is None or bias is None:
            return 'the norm has no weight or no bias'
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != mixer.channels or not x.numel():
            return 'there is nothing to mix'
        if weight.device != x.device or not (weight.dtype == x.dtype or autocast_active(x.device.type)):
            return 'the weights have another dtype or device'
        return layout.refusal(x, mixer.channels, mixer.conv_channels)

    def branch(self, mixed: Tensor) -> Tensor:
        """Norm and the two scaled linears, (N, C, H, W) to the same shape."""
        if isinstance(self.norm, LayerNorm2d):
            mixed = self.norm.forward_channels_last(mixed.permute(0, 2, 3, 1))
        else:
            mixed = self.norm(mixed).permute(0, 2, 3, 1)
        mixed = self._scaled_projection(self.act(self.pointwise_conv1(mixed)))
        return mixed.permute(0, 3, 1, 2)

    def _padded_widths(self, x: Tensor) -> tuple[int, int] | None:
        """C and the hidden width, rows rounded up to 16 bytes; None where that does not pay or a hook would see it."""
        dtype, linears = layout.compute_dtype(x), (self.pointwise_conv1, self.pointwise_conv2)
        if dtype.itemsize > 2 or x.numel() < FEWEST_ROWS * x.shape[1]:
            return None
        widths = padded_width(x.shape[1], dtype), padded_width(self.pointwise_conv1.out_features, dtype)
        if widths == (x.shape[1], self.pointwise_conv1.out_features):
            return None
        plain = all(is_plain(linear, nn.Linear) for linear in linears) and is_plain(self.act, *ACTIVATIONS.values())
        return widths if plain else None

    def _scaled_projection(self, hidden: Tensor, width: int | None = None) -> Tensor:
        """gamma * pointwise_conv2(hidden), (N, H, W, hidden) to (N, H, W, C); by way of rows of ``width``, if given."""
        linear, gamma = self.pointwise_conv2, self.gamma
        if width is None and (gamma is None or not self._scales_weights(hidden)):
            out = linear(hidden)
        else:
            weight, bias = cast(Tensor, linear.weight), cast(Tensor, linear.bias)
            if gamma is not None and self._scales_weights(hidden):
                weight, bias, gamma = weight * gamma[:, None], bias * gamma, None
            if width is None:
                return F.linear(hidden, weight, bias)
            out = padded_linear(hidden, weight, bias, width)[..., : linear.out_features]
        # under autocast in float32, as gamma is: these activations are small, or in float16 gamma's first values zero
        return out if gamma is None else out * gamma

    def _scales_weights(self, hidden: Tensor) -> bool:
        """Whether gamma goes into the weights instead of onto the output, which would take another activation's memory.

        Not where the weights are the larger of the two, and not in float16, where gamma's first values times a weight
        are zero. Graphs for evaluation keep the product apart: they may serve every size.
        """
        if not self.training and (compiling() or exporting() or not is_plain(self.pointwise_conv2, nn.Linear)):
            return False
        return hidden.dtype != torch.float16 and hidden.numel() > hidden.shape[-1] ** 2

    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Merge the mixer, and a BatchNorm behind it into the first linear, in place; idempotent."""
        super().switch_to_deploy(pos_embed)
        if isinstance(self.norm, _BatchNorm):
            fold_before(self.pointwise_conv1, *batch_norm_scale_and_shift(self.norm))
            self.norm = nn.Identity()


def checkpointed(block: nn.Module, *inputs: Tensor | None) -> Tensor:
    """Run ``block._forward`` under the non-reentrant checkpoint; its recomputation must not count a batch twice."""
    forward = cast(Callable[..., Tensor], block._forward)
    if compiling():  # it recomputes without the norms' updates, and cannot trace a state of ours
        return checkpoint(forward, *inputs, use_reentrant=False)
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm)]
    first = True

    def run(*inputs: Tensor | None) -> Tensor:
        nonlocal first
        if first:
            first = False
            return forward(*inputs)
        with _FrozenStatistics(norms):
            return forward(*inputs)

    return checkpoint(run, *inputs, use_reentrant=False)


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
