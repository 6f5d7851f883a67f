"""The peripheral token mixer of PeLK: large shared kernel, parallel small kernel, partial channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import SharingGrid, depthwise_conv2d, peripheral_conv2d, visible_sum
from ..ops.checks import check_int, check_number, check_odd
from .mixer import TokenMixer
from .norm import batch_norm_scale_and_shift, build_norm, check_cfg

PosEmbed = Literal['visible', 'bias']


class PeripheralConv2d(TokenMixer):
    """Partial peripheral convolution with its two BatchNorm branches (PeLK, arXiv 2403.07589, sections 4.1 to 4.3).

    The first ``g = int(conv_ratio * channels)`` channels become BN(peripheral K x K [+ positional term]) + BN(small
    depthwise kernel); the others pass unchanged. The parallel small kernel and its BatchNorm are decision D4 of
    ``docs/decisions.md``.

    Args:
        channels: C.
        kernel_size: K, odd.
        central_size: Unit-cell centre of the paper's grid. Ignored where ``grid`` is given.
        grid: A :class:`SharingGrid` (or its sizes) instead of the paper's.
        conv_ratio: Share of channels that are convolved, in (0, 1].
        small_kernel: Size of the parallel kernel, odd, at most K; None for no such branch.
        norm_cfg: BatchNorm behind each branch: ``dict(type='BN' | 'SyncBN')``; deployment folds it away.
        pos_embed: How the kernel-wise positional embedding h given to :meth:`forward` is read: 'visible' sums w * h
            over the positions inside the image, 'bias' over all K x K; None for no embedding (Eq. 3, decision D2).

    Raises:
        TypeError, ValueError: An argument is out of the ranges above.
    """

    bias: nn.Parameter | None
    pos_weight: nn.Parameter | None
    MAX_CACHED_MAPS = 8

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
        super().__init__()
        self.grid = resolve_grid(kernel_size, central_size, grid)
        self.channels = channels
        self.conv_channels = count_conv_channels(channels, conv_ratio)
        if pos_embed is not None and pos_embed not in get_args(PosEmbed):
            raise ValueError(f"pos_embed must be 'visible', 'bias' or None, but got {pos_embed!r}")
        self.pos_embed = pos_embed
        if small_kernel is not None:
            check_odd('small_kernel', small_kernel)
            if small_kernel > kernel_size:
                raise ValueError(f'small_kernel must be at most kernel_size={kernel_size}, but got {small_kernel}')
        self.small_kernel = small_kernel
        norm_cfg = {'type': 'BN'} if norm_cfg is None else norm_cfg
        check_cfg("the mixer's norm_cfg", norm_cfg)
        if norm_cfg.get('type') not in ('BN', 'SyncBN'):
            raise ValueError(f"type of the mixer's norm_cfg must be 'BN' or 'SyncBN', but got {norm_cfg.get('type')!r}")
        if not norm_cfg.get('track_running_stats', True):
            raise ValueError("the mixer's norm_cfg must keep running statistics: deployment folds them")

        k = self.grid.num_segments
        self.w_theta = nn.Parameter(torch.empty(self.conv_channels, k, k))
        self.norm = build_norm(norm_cfg, self.conv_channels)
        if small_kernel is not None:
            self.small_weight = nn.Parameter(torch.empty(self.conv_channels, 1, small_kernel, small_kernel))
            self.small_norm = build_norm(norm_cfg, self.conv_channels)
        self.deployed = False
        self._pos_maps: dict[tuple[Any, ...], Tensor] = {}
        self._pos_maps_of: tuple[Tensor, ...] = ()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal weights, std 0.02, as ConvNeXt's convolutions."""
        nn.init.trunc_normal_(self.w_theta, std=0.02)
        if self.small_kernel is not None:
            nn.init.trunc_normal_(self.small_weight, std=0.02)

    def forward(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        """Mix tokens.

        Args:
            x: (N, C, H, W).
            pos_embed: h, (g, K, K), where the mixer reads one.

        Returns:
            (N, C, H, W).

        Raises:
            ValueError: Another channel count, or h given, missing or of another shape than the mixer was built for.
        """
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != self.channels:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f'x must have shape (N, {self.channels}, H, W), but got {got}')
        self._check_pos_embed(pos_embed)
        mixed, passed = x[:, : self.conv_channels], x[:, self.conv_channels :]
        mixed = self._deployed_branch(mixed, pos_embed) if self.deployed else self._branches(mixed, pos_embed)
        return torch.cat([mixed, passed], dim=1) if passed.shape[1] else mixed

    def _branches(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        if isinstance(self.norm, nn.BatchNorm2d) and self.norm.training and x.numel() == x.shape[1]:
            raise ValueError(
                f'x must hold more than one pixel for BatchNorm to train on, but got {tuple(x.shape)}: '
                'use a larger batch or image, or norm_eval=True'
            )
        bias = None
        if self.pos_embed == 'bias':
            assert pos_embed is not None
            bias = self._bias_of(pos_embed)
        large = peripheral_conv2d(x, self.w_theta, self.grid, bias)
        if self.pos_embed == 'visible':
            assert pos_embed is not None
            large = large + self._pos_map(self.w_theta, pos_embed, large)
        large = self.norm(large)
        if self.small_kernel is None:
            return large
        return large + self.small_norm(depthwise_conv2d(x, self.small_weight))

    def _deployed_branch(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        out = peripheral_conv2d(x, self.w_theta, self.grid, self.bias)
        if self.pos_embed != 'visible':
            return out
        assert pos_embed is not None
        assert self.pos_weight is not None
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return out + self._pos_map(self.pos_weight, pos_embed, out)
        # By value: versions and addresses miss what is written through `.data`, as weight averaging does.
        state = (self.pos_weight, pos_embed)
        if not self._pos_maps or not all(map(_same, self._pos_maps_of, state)):
            self._pos_maps.clear()
            self._pos_maps_of = tuple(tensor.detach().clone() for tensor in state)
        key = (*out.shape[2:], out.dtype)
        if key not in self._pos_maps:
            while len(self._pos_maps) >= self.MAX_CACHED_MAPS:
                self._pos_maps.pop(next(iter(self._pos_maps)))
            self._pos_maps[key] = self._pos_map(self.pos_weight, pos_embed, out)
        return out + self._pos_maps[key]

    def _pos_map(self, weight: Tensor, pos_embed: Tensor, like: Tensor) -> Tensor:
        """(g, H, W): at each pixel of ``like``, the sum of w * h over the visible part of the kernel."""
        product = self.grid.expand(weight).squeeze(1) * pos_embed
        accumulator = torch.promote_types(product.dtype, torch.float32)
        return visible_sum(product.to(accumulator), (like.shape[2], like.shape[3])).to(like.dtype)

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
        scale, bias = batch_norm_scale_and_shift(cast(_BatchNorm, self.norm))
        if self.pos_embed == 'bias':
            self._check_pos_embed(pos_embed)
            assert pos_embed is not None
            bias = bias + scale * self._bias_of(pos_embed).double()
            self.pos_embed = None
        large = self.grid.expand(self.w_theta.double() * scale[:, None, None])
        merged = large
        if self.small_kernel is not None:
            small_scale, small_bias = batch_norm_scale_and_shift(cast(_BatchNorm, self.small_norm))
            margin = (self.grid.kernel_size - self.small_kernel) // 2
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

    def _check_pos_embed(self, pos_embed: Tensor | None) -> None:
        expected = (self.conv_channels, self.grid.kernel_size, self.grid.kernel_size)
        if self.pos_embed is None:
            if pos_embed is not None:
                raise ValueError('pos_embed must be None: this mixer was built, or deployed, without an embedding')
        elif not isinstance(pos_embed, Tensor) or tuple(pos_embed.shape) != expected:
            got = tuple(pos_embed.shape) if isinstance(pos_embed, Tensor) else pos_embed
            raise ValueError(f'pos_embed must be h of shape {expected} for a {self.pos_embed!r} mixer, but got {got}')
        elif (pos_embed.dtype, pos_embed.device) != (self.w_theta.dtype, self.w_theta.device):
            raise ValueError(
                f'pos_embed must be {self.w_theta.dtype} on {self.w_theta.device} as w_theta is, '
                f'but got {pos_embed.dtype} on {pos_embed.device}'
            )

    # Cached maps also die with whatever may replace the weights or move them.

    def train(self, mode: bool = True) -> PeripheralConv2d:
        """Set the mode and drop cached maps."""
        self._pos_maps.clear()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> PeripheralConv2d:
        self._pos_maps.clear()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._pos_maps.clear()
        super()._load_from_state_dict(*args, **kwargs)

    def extra_repr(self) -> str:
        """Channels, kernel, grid and form."""
        return (
            f'{self.channels}, conv_channels={self.conv_channels}, kernel_size={self.grid.kernel_size}, '
            f'grid={self.grid.sizes}, small_kernel={self.small_kernel}, pos_embed={self.pos_embed!r}, '
            f'deployed={self.deployed}'
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(a, b)


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


def count_conv_channels(channels: int, conv_ratio: float) -> int:
    """g = int(conv_ratio * channels): how many of the channels are convolved (section 4.3).

    Raises:
        ValueError: ``channels`` below 1, ``conv_ratio`` outside (0, 1], or no channel left to convolve.
    """
    check_int('channels', channels, 1)
    check_number('conv_ratio', conv_ratio)
    if not 0 < conv_ratio <= 1:
        raise ValueError(f'conv_ratio must be in (0, 1], but got {conv_ratio}')
    convolved = int(conv_ratio * channels)
    if convolved < 1:
        raise ValueError(f'conv_ratio={conv_ratio} of {channels} channels leaves none to convolve; raise one of them')
    return convolved
