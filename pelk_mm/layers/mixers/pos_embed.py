"""What the mixers share that can read a positional embedding h: BatchNorm branches, the check of h, its cached map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from ...ops import visible_sum
from ...ops.tracing import being_recorded, compiling, exporting
from ...utils.checks import check_odd
from ..norm import check_branch_norm_cfg
from .partial import PartialConv

PosEmbed = Literal['visible', 'bias']
Self = TypeVar('Self', bound='PosEmbedConv')


class PosEmbedConv(PartialConv):
    """A :class:`PartialConv` that can read the kernel-wise positional embedding h of its stage.

    Each branch ends in its own BatchNorm, as in RepLKNet and SLaK (decision D4 of ``docs/paper/decisions.md``).

    Args:
        channels, kernel_size, conv_ratio: As for :class:`PartialConv`.
        small_kernel: Size of the parallel kernel, odd, at most K; None for no such branch.
        norm_cfg: BatchNorm behind each branch: ``dict(type='BN' | 'SyncBN')``; deployment folds it away.
        pos_embed: How the h given to :meth:`forward` is read: 'visible' sums w * h over the positions inside the image,
            'bias' over all K x K; None for no embedding (Eq. 3, decision D2).

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
        super().__init__(channels, kernel_size, conv_ratio=conv_ratio)
        if pos_embed is not None and pos_embed not in get_args(PosEmbed):
            raise ValueError(f"pos_embed must be 'visible', 'bias' or None, but got {pos_embed!r}")
        self.pos_embed = pos_embed
        if small_kernel is not None:
            check_odd('small_kernel', small_kernel)
            if small_kernel > kernel_size:
                raise ValueError(f'small_kernel must be at most kernel_size={kernel_size}, but got {small_kernel}')
        self.small_kernel = small_kernel
        self.branch_norm_cfg = check_branch_norm_cfg(norm_cfg)
        self._pos_maps: dict[tuple[Any, ...], Tensor] = {}
        self._pos_maps_of: tuple[Tensor, ...] = ()

    def _check_pos_embed(self, pos_embed: Tensor | None) -> None:
        if self.pos_embed is None:
            super()._check_pos_embed(pos_embed)
            return
        expected = (self.conv_channels, self.kernel_size, self.kernel_size)
        if not isinstance(pos_embed, Tensor) or tuple(pos_embed.shape) != expected:
            got = tuple(pos_embed.shape) if isinstance(pos_embed, Tensor) else pos_embed
            raise ValueError(f'pos_embed must be h of shape {expected} for a {self.pos_embed!r} mixer, but got {got}')
        weight = next(self.parameters())
        if (pos_embed.dtype, pos_embed.device) != (weight.dtype, weight.device):
            raise ValueError(
                f'pos_embed must be {weight.dtype} on {weight.device} as the weights are, '
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


def _same(a: Tensor, b: Tensor) -> bool:
    return (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(a, b)
