"""What the mixers share that convolve only some of their channels: the split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops import open_block
from ...utils.checks import check_int, check_number, check_odd
from .base import TokenMixer


class PartialConv(TokenMixer):
    """Convolves the first ``g = int(conv_ratio * channels)`` channels and passes the others (PeLK, section 4.3).

    A mixer gives :meth:`branches` and :meth:`deployed_branch`.

    Args:
        channels: C.
        kernel_size: K, odd.
        conv_ratio: Share of channels that are convolved, in (0, 1].

    Raises:
        TypeError, ValueError: An argument is out of the ranges above.
    """

    def __init__(self, channels: int, kernel_size: int, *, conv_ratio: float) -> None:
        super().__init__()
        check_odd('kernel_size', kernel_size)
        self.channels = channels
        self.conv_channels = count_conv_channels(channels, conv_ratio)
        self.kernel_size = kernel_size

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
        mixed = self._mix(mixed, pos_embed)
        if not passed.shape[1]:
            return mixed
        # in channels-last memory whatever came: the block's LayerNorm and linears read it as it is
        return torch.cat([part.permute(0, 2, 3, 1) for part in (mixed, passed)], dim=-1).permute(0, 3, 1, 2)

    def parts(self, x: Tensor, pos_embed: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`forward` puts together, and x, for a block that joins the parts and adds to x by itself.

        Args and errors are those of :meth:`forward`. The convolutions share one cast of x, and the gradients of the
        three are added in one pass (:func:`~pelk_mm.ops.open_block`).

        Returns:
            The mixed channels (N, g, H, W), the others (N, C - g, H, W), and x.
        """
        self.check_input(x)
        self._check_pos_embed(pos_embed)
        planes, passed, residual = open_block(x, self.conv_channels)
        return self._mix(planes, pos_embed), passed, residual

    def _mix(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        return (self.deployed_branch if self.deployed else self.branches)(x, pos_embed)

    def _check_pos_embed(self, pos_embed: Tensor | None) -> None:
        if pos_embed is not None:
            raise ValueError('pos_embed must be None: this mixer was built, or deployed, without an embedding')

    def _check_scalable(self) -> None:
        """Raise NotImplementedError where some channels pass, RuntimeError before deployment."""
        if self.conv_channels < self.channels:
            raise NotImplementedError('the channels that pass have no weights to scale')
        if not self.deployed:
            raise RuntimeError('scale_output() needs the deployed form: call switch_to_deploy() first')

    def extra_repr(self) -> str:
        """Channels, kernel and form."""
        return (
            f'{self.channels}, conv_channels={self.conv_channels}, kernel_size={self.kernel_size}, '
            f'deployed={self.deployed}'
        )


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
