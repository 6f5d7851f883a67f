"""A plain depthwise convolution as a mixer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops import depthwise_conv2d
from ..fold import fold_behind
from .partial import PartialConv


class DepthwiseConv(PartialConv):
    """A K x K depthwise convolution; without bias and BatchNorm until it is deployed, the block having a BatchNorm.

    The small kernels of UniRepLKNet (arXiv 2311.15599), and what its :class:`~.dilated.DilatedReparamConv` becomes.

    Args:
        channels: C.
        kernel_size: K, odd.
        conv_ratio: Share of channels that are convolved, in (0, 1]; the others pass.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    bias: nn.Parameter | None

    def __init__(self, channels: int, kernel_size: int, *, conv_ratio: float = 1.0) -> None:
        super().__init__(channels, kernel_size, conv_ratio=conv_ratio)
        self.weight = nn.Parameter(torch.empty(self.conv_channels, 1, kernel_size, kernel_size))
        self.register_parameter('bias', None)
        self.reset_parameters()

    def branches(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The convolution on (N, g, H, W), same shape."""
        return depthwise_conv2d(x, self.weight, self.bias)

    def deployed_branch(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The biased convolution on (N, g, H, W), same shape."""
        return depthwise_conv2d(x, self.weight, self.bias)

    def dense_kernel(self) -> Tensor:
        """``weight``, (g, K, K)."""
        return self.weight.squeeze(1)

    @torch.no_grad()
    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Merge all branches into ``weight`` and ``bias``, in place; idempotent.

        Args:
            pos_embed: None: this mixer reads no embedding.

        Raises:
            ValueError: An embedding was given.
        """
        self._check_pos_embed(pos_embed)
        if not self.deployed:
            self._merge()
            self.deployed = True

    def _merge(self) -> None:
        zeros = torch.zeros_like(self.weight[:, 0, 0, 0])
        self.bias = nn.Parameter(zeros, requires_grad=self.weight.requires_grad)

    def scale_output(self, scale: Tensor, shift: Tensor) -> None:
        """Fold y -> scale * y + shift, each (C,) in float64, into ``weight`` and ``bias``.

        Raises:
            NotImplementedError: Some channels pass, and no weight could scale them.
            RuntimeError: Not deployed yet.
        """
        self._check_scalable()
        fold_behind(self, scale, shift)
