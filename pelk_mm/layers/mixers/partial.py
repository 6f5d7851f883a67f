"""What the mixers with BatchNorm branches on part of the channels share: the split, h, and its cached map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from ...ops import visible_sum
from ...ops.tracing import being_recorded, compiling, exporting
from ...utils.checks import check_int, check_number, check_odd
from ..norm import check_branch_norm_cfg
from .base import TokenMixer

PosEmbed = Literal['visible', 'bias']
Self = TypeVar('Self', bound='PartialConv')


class PartialConv(TokenMixer):
    """Convolves the first ``g = int(conv_ratio * channels)`` channels and passes the others (PeLK, section 4.3).

    A mixer gives :meth:`branches` and :meth:`deployed_branch`. Each branch ends in its own BatchNorm, as in RepLKNet
    and SLaK (decision D4 of ``docs/decisions.md``).

    Args:
        channels: C.
        kernel_size: K, odd.
        conv_ratio: Share of channels that are convolved, in (0, 1].
        small_kernel: Size of the parallel kernel, odd, at most K; None for no such branch.
        norm_cfg: BatchNorm behind each branch: ``dict(type='BN' | 'SyncBN')``; deployment folds it away.
        pos_embed: How the kernel-wise positional embedding h given to :meth:`forward` is read: 'visible' sums w * h
            over the positions inside the image, 'bias' over all K x K; None for no embedding (Eq. 3, decision D2).

    Raises:
        TypeError, ValueError: An argument is out of the ranges above.
    """

    reads_pos_embed = True
    MAX_CACHED_MAPS = 8

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        conv_ratio: float,
        small_kernel: int | None,
        norm_cfg: Mapping[str, Any] | None,
        pos_embed: PosEmbed | None,
    ) -> None:
        super().__init__()
        check_odd('kernel_size', kernel_size)
        self.channels = channels
        self.conv_channels = count_conv_channels(channels, conv_ratio)
        if pos_embed is not None and pos_embed not in get_args(PosEmbed):
            raise ValueError(f"pos_embed must be 'visible', 'bias' or None, but got {pos_embed!r}")
        self.pos_embed = pos_embed
        if small_kernel is not None:
            check_odd('small_kernel', small_kernel)
            if small_kernel > kernel_size:
                raise ValueError(f'small_kernel must be at most kernel_size={kernel_size}, but got {small_kernel}')
        self.kernel_size = kernel_size
        self.small_kernel = small_kernel
        self.branch_norm_cfg = check_branch_norm_cfg(norm_cfg)
        self.deployed = False
        self._pos_maps: dict[tuple[Any, ...], Tensor] = {}
        self._pos_maps_of: tuple[Tensor, ...] = ()

    def branches(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The sum of the branches on (N, g, H, W), same shape."""
        raise NotImplementedError

    def deployed_branch(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The merged convolution on (N, g, H, W), same shape."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Truncated normal kernels, std 0.02, as ConvNeXt's convolutions."""
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)

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
        self.check_input(x)
        self._check_pos_embed(pos_embed)
        mixed, passed = x.split([self.conv_channels, self.channels - self.conv_channels], dim=1)
        mixed = (self.deployed_branch if self.deployed else self.branches)(mixed, pos_embed)
        if not passed.shape[1]:
            return mixed
        # in channels-last memory whatever came: the block's LayerNorm and linears read it as it is
        return torch.cat([part.permute(0, 2, 3, 1) for part in (mixed, passed)], dim=-1).permute(0, 3, 1, 2)

    def _check_pos_embed(self, pos_embed: Tensor | None) -> None:
        expected = (self.conv_channels, self.kernel_size, self.kernel_size)
        if self.pos_embed is None:
            if pos_embed is not None:
                raise ValueError('pos_embed must be None: this mixer was built, or deployed, without an embedding')
            return
        if not isinstance(pos_embed, Tensor) or tuple(pos_embed.shape) != expected:
            got = tuple(pos_embed.shape) if isinstance(pos_embed, Tensor) else pos_embed
            raise ValueError(f'pos_embed must be h of shape {expected} for a {self.pos_embed!r} mixer, but got {got}')
        own = next(self.parameters())
        if (pos_embed.dtype, pos_embed.device) != (own.dtype, own.device):
            raise ValueError(
                f'pos_embed must be {own.dtype} on {own.device} as the weights are, '
                f'but got {pos_embed.dtype} on {pos_embed.device}'
            )

    def _within_reach(self, kernel: Tensor, like: Tensor) -> Tensor:
        """The middle of (g, K, K) that reaches from one pixel of ``like`` to another; the rest meets only padding."""
        if exporting() or compiling():  # for images of every size
            return kernel
        rows, columns = (
            slice(cut, self.kernel_size - cut)
            for cut in (max(0, self.kernel_size // 2 - length + 1) for length in like.shape[2:])
        )
        return kernel[:, rows, columns]

    def _cached_map(
        self, pos_embed: Tensor, weights: tuple[Tensor, ...], compute: Callable[[], Tensor], like: Tensor
    ) -> Tensor:
        """``compute()``, kept in evaluation for each size and dtype of ``like`` as long as its arguments stay the same.

        Only the part of h that reaches across ``like`` is compared: the rest does not enter a map of that size.
        """
        if torch.is_grad_enabled() or being_recorded(like):
            return compute()
        # By value: versions and addresses miss what is written through `.data`, as weight averaging does.
        if not self._pos_maps or not all(
            _same(*pair)
            for pair in (
                *zip(self._pos_maps_of[1:], weights, strict=True),
                [self._within_reach(h, like) for h in (self._pos_maps_of[0], pos_embed)],
            )
        ):
            self._pos_maps.clear()
            self._pos_maps_of = tuple(tensor.detach().clone() for tensor in (pos_embed, *weights))
        key = (*like.shape[2:], like.dtype)
        if key not in self._pos_maps:
            while len(self._pos_maps) >= self.MAX_CACHED_MAPS:
                self._pos_maps.pop(next(iter(self._pos_maps)))
            self._pos_maps[key] = compute()
        return self._pos_maps[key]

    # Cached maps also die with whatever may replace the weights or move them.

    def train(self: Self, mode: bool = True) -> Self:
        """Set the mode and drop cached maps."""
        self._pos_maps.clear()
        return super().train(mode)

    def _apply(self: Self, *args: Any, **kwargs: Any) -> Self:
        self._pos_maps.clear()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._pos_maps.clear()
        super()._load_from_state_dict(*args, **kwargs)

    def extra_repr(self) -> str:
        """Channels, kernels and form."""
        return (
            f'{self.channels}, conv_channels={self.conv_channels}, kernel_size={self.kernel_size}, '
            f'small_kernel={self.small_kernel}, pos_embed={self.pos_embed!r}, deployed={self.deployed}'
        )


def visible_map(product: Tensor, like: Tensor, bias: Tensor | None = None) -> Tensor:
    """(g, H, W) in the dtype of ``like`` (N, g, H, W): the sum of ``product`` (g, kh, kw) over what is visible.

    Summed in float32 at least, whatever the dtypes; ``bias`` (g,) is added before rounding.
    """
    accumulator = torch.promote_types(product.dtype, torch.float32)
    total = visible_sum(product.to(accumulator), (like.shape[2], like.shape[3]))
    return (total if bias is None else total + bias[:, None, None]).to(like.dtype)


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


def _same(a: Tensor, b: Tensor) -> bool:
    return (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(a, b)
