"""The shiftwise mixer of SW: a large kernel from shuffled groups of small ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...ops import depthwise_conv2d, shiftwise_conv2d
from ...ops.shiftwise import check_stride, count_groups, shiftwise_kernels
from ...utils.checks import check_int, check_odd
from ..norm import batch_norm_scale_and_shift, build_branch_norm, check_branch_norm_cfg
from .base import TokenMixer, in_square
from .partial import count_conv_channels
from .shuffles import shuffle_tables, split_channels


class ShiftwiseConv(TokenMixer):
    """BN(wide) + BN(tall) + BN(small) + x on part of the channels (SW, arXiv 2401.12736; its authors' second version).

    The branches are those of :func:`~pelk_mm.ops.shiftwise_conv2d`; its filters are the sum over rep paths. The
    channels convolved come first in the output, those passed behind them, each in ascending order: a permutation of
    the input's that is not undone, as in the authors' code, so that their weights fit. Filters ``weight``
    (P, C_r, g, N, N); the tables of the shuffles are buffers, the same in every layer of these sizes.

    Args:
        channels: C.
        kernel_size: M, odd.
        ghost_ratio: G, the share of channels that pass, in [0, 1).
        small_kernel: N, the size of the filters, odd, at most M.
        rep_paths: P, parallel filters that are summed before the shift; deployment merges them.
        edges: R, shuffles that share the filters.
        stride: 1: the shifts have no other.
        even: Convolve an even number of channels, as version 2; see :func:`~.shuffles.split_channels`.
        norm_cfg: BatchNorm behind each branch: ``dict(type='BN' | 'SyncBN')``; deployment folds it away.

    Attributes:
        backend: How the branches are computed before deployment, as :func:`~pelk_mm.ops.shiftwise_conv2d` takes it.

    Raises:
        TypeError, ValueError: An argument is out of the ranges above.
    """

    backend: str | None = None
    #: The tables of the shuffles, while the branches are not merged, and the channels convolved and passed.
    horizontal: Tensor
    vertical: Tensor
    identity: Tensor
    rep_channels: Tensor
    ghost_channels: Tensor
    #: These three are there once deployed; the ghosts are scaled where a BatchNorm that follows was folded.
    bias: nn.Parameter
    ghost_scale: nn.Parameter | None
    ghost_shift: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        ghost_ratio: float = 0.23,
        small_kernel: int = 3,
        rep_paths: int = 2,
        edges: int = 4,
        stride: int = 1,
        even: bool = True,
        norm_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_odd('kernel_size', kernel_size)
        check_odd('small_kernel', small_kernel)
        if small_kernel > kernel_size:
            raise ValueError(f'small_kernel must be at most kernel_size={kernel_size}, but got {small_kernel}')
        check_int('rep_paths', rep_paths, 1)
        check_int('edges', edges, 1)
        check_stride(stride)
        norm_cfg = check_branch_norm_cfg(norm_cfg)
        convolved, passed = split_channels(channels, ghost_ratio, even)
        groups = count_groups(kernel_size, small_kernel)
        self.channels, self.conv_channels = channels, len(convolved)
        self.kernel_size, self.small_kernel = kernel_size, small_kernel
        self.rep_paths, self.edges = rep_paths, edges
        self.weight = nn.Parameter(torch.empty(rep_paths, len(convolved), groups, small_kernel, small_kernel))
        nn.init.trunc_normal_(self.weight, std=0.02)
        self.wide_norm = build_branch_norm(norm_cfg, len(convolved))
        self.tall_norm = build_branch_norm(norm_cfg, len(convolved))
        self.small_norm = build_branch_norm(norm_cfg, len(convolved))
        horizontal, vertical, identity = shuffle_tables(len(convolved), groups, edges)
        tables = {'horizontal': horizontal, 'vertical': vertical, 'identity': identity}
        for name, table in {**tables, 'rep_channels': convolved, 'ghost_channels': passed}.items():
            # int32: enough, and a type that every back-end of torch.distributed broadcasts
            self.register_buffer(name, torch.empty(table.shape, dtype=torch.int32).copy_(table))

    @classmethod
    def from_pelk(
        cls,
        channels: int,
        kernel_size: int,
        *,
        conv_ratio: float,
        small_kernel: int,
        branch_norm_cfg: Mapping[str, Any],
    ) -> ShiftwiseConv:
        """``small_kernel`` is the size of the filters that the large kernel is made of; 1 - ``conv_ratio`` pass."""
        passed = channels - count_conv_channels(channels, conv_ratio)
        ratio = (passed + 0.5) / channels  # half a channel more: it is multiplied and truncated again
        return cls(
            channels, kernel_size, ghost_ratio=ratio, small_kernel=small_kernel, even=False, norm_cfg=branch_norm_cfg
        )

    @property
    def filter_parameters(self) -> tuple[str, ...]:
        """The filters, while they are not merged."""
        return () if self.deployed else ('weight',)

    def forward(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        """Mix tokens.

        Args:
            x: (N, C, H, W).
            pos_embed: None: this mixer reads no embedding.

        Returns:
            (N, C, H, W), the channels in the order that the class describes.

        Raises:
            ValueError: Another channel count, or an embedding.
        """
        self.check_input(x)
        self.refuse_pos_embed(pos_embed)
        x = x.permute(0, 2, 3, 1)  # in channels-last memory the gathers, the norms and the linears behind are fast
        mixed = self._mix(_select(x, self.rep_channels.long()).permute(0, 3, 1, 2))
        passed = _select(x, self.ghost_channels.long())
        if self.deployed and self.ghost_scale is not None:
            passed = torch.addcmul(cast(Tensor, self.ghost_shift), passed, self.ghost_scale)
        return torch.cat([mixed.permute(0, 2, 3, 1), passed], dim=-1).permute(0, 3, 1, 2)

    def _mix(self, x: Tensor) -> Tensor:
        """What happens to the channels convolved, (N, C_r, H, W) to the same shape."""
        if self.deployed:
            return depthwise_conv2d(x, self.wide_weight, self.bias) + depthwise_conv2d(x, self.tall_weight)
        wide, tall, small = shiftwise_conv2d(
            x, self.weight.sum(0), *self.tables(), self.kernel_size, backend=self.backend
        )
        return self.wide_norm(wide) + self.tall_norm(tall) + self.small_norm(small) + x

    def dense_kernel(self) -> Tensor:
        """The sum of all branches, (C_r, K, K), and of the residual once deployed; K is at least M."""
        kernels: tuple[Tensor, ...]
        if self.deployed:
            kernels = (self.wide_weight, self.tall_weight)
        else:
            kernels = shiftwise_kernels(self.weight.sum(0), *self.tables(), self.kernel_size)
        side = kernels[0].shape[3]
        return torch.stack([in_square(kernel, side) for kernel in kernels]).sum(0)

    @torch.no_grad()
    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Merge paths, edges, BatchNorms, the small branch and the residual into a wide and a tall kernel, in place.

        Idempotent.

        Args:
            pos_embed: None: this mixer reads no embedding.

        Raises:
            ValueError: An embedding was given.
        """
        self.refuse_pos_embed(pos_embed)
        if self.deployed:
            return
        dtype, trainable = self.weight.dtype, self.weight.requires_grad
        kernels = shiftwise_kernels(self.weight.double().sum(0), *self.tables(), self.kernel_size)
        norms = (self.wide_norm, self.tall_norm, self.small_norm)
        scales, shifts = zip(*map(batch_norm_scale_and_shift, norms), strict=True)
        wide, tall, small = (kernel * scale[:, None, None, None] for kernel, scale in zip(kernels, scales, strict=True))
        middle = self.small_kernel // 2
        small[:, :, middle, middle] += 1.0  # the residual
        margin = (wide.shape[3] - self.small_kernel) // 2
        wide = wide + F.pad(small, (margin, margin))
        del self.weight, self.wide_norm, self.tall_norm, self.small_norm, self.horizontal, self.vertical, self.identity
        self.wide_weight = nn.Parameter(wide.to(dtype), requires_grad=trainable)
        self.tall_weight = nn.Parameter(tall.to(dtype), requires_grad=trainable)
        self.bias = nn.Parameter(sum(shifts).to(dtype), requires_grad=trainable)
        self.ghost_scale = self.ghost_shift = None
        self.deployed = True

    @torch.no_grad()
    def scale_output(self, scale: Tensor, shift: Tensor) -> None:
        """Fold y -> scale * y + shift, each (C,) in the order of the output, into the deployed weights."""
        if not self.deployed:
            raise RuntimeError('scale_output() needs the deployed form: call switch_to_deploy() first')
        convolved, passed = scale.split([self.conv_channels, self.channels - self.conv_channels])
        convolved_shift, passed_shift = shift.split([self.conv_channels, self.channels - self.conv_channels])
        for weight in (self.wide_weight, self.tall_weight):
            weight.copy_(weight.double() * convolved[:, None, None, None])
        self.bias.copy_(self.bias.double() * convolved + convolved_shift)
        if len(passed):
            if self.ghost_scale is not None:
                passed_shift = passed_shift + passed * cast(Tensor, self.ghost_shift)
                passed = passed * self.ghost_scale
            self.ghost_scale, self.ghost_shift = (
                nn.Parameter(value.to(self.bias.dtype), requires_grad=self.bias.requires_grad)
                for value in (passed, passed_shift)
            )

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """horizontal and vertical (R, C_r, g), identity (R, C_r), as :func:`~pelk_mm.ops.shiftwise_conv2d` takes them.

        Not there once deployed.
        """
        return self.horizontal.long(), self.vertical.long(), self.identity.long()

    def extra_repr(self) -> str:
        """Channels, kernels and form."""
        return (
            f'{self.channels}, conv_channels={self.conv_channels}, kernel_size={self.kernel_size}, '
            f'small_kernel={self.small_kernel}, rep_paths={self.rep_paths}, edges={self.edges}, '
            f'deployed={self.deployed}'
        )


def _select(x: Tensor, channels: Tensor) -> Tensor:
    """Some channels of (N, H, W, C): what ``index_select`` gives, several times faster on a CPU."""
    return x.gather(3, channels.expand(*x.shape[:3], -1))
