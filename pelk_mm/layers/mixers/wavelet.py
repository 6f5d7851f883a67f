"""The wavelet mixer of WTConv."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...ops import wavelet_conv2d
from ...ops.wavelet import BANDS
from ...utils.checks import check_int, check_odd
from .base import in_square
from .partial import PartialConv


class WaveletConv(PartialConv):
    """A k x k depthwise convolution, and one of the Haar coefficients of each of L levels (WTConv, arXiv 2407.05848).

    The operator is :func:`~pelk_mm.ops.wavelet_conv2d`; each of its kernels has a learnt scale for each of its
    channels, which deployment multiplies into the kernel. Level l sees k 2^l pixels. There is no norm.

    Args:
        channels: C.
        kernel_size: k, odd.
        levels: L, 0 for the plain convolution.
        conv_ratio: Share of channels that are convolved, in (0, 1]; WTConv convolves all of them.

    Attributes:
        kernel_size: Side of :meth:`dense_kernel`, (k + 1) 2^L - 1 pixels.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    merges_norms = False
    shift_invariant = False

    def __init__(self, channels: int, kernel_size: int = 5, levels: int = 1, *, conv_ratio: float = 1.0) -> None:
        check_odd('kernel_size', kernel_size)
        check_int('levels', levels, 0)
        super().__init__(channels, (kernel_size + 1) * 2**levels - 1, conv_ratio=conv_ratio)
        self.small_kernel, self.levels = kernel_size, levels
        self.weight = nn.Parameter(torch.empty(self.conv_channels, 1, kernel_size, kernel_size))
        for level in range(levels):
            weight = nn.Parameter(torch.empty(BANDS * self.conv_channels, 1, kernel_size, kernel_size))
            setattr(self, f'level{level}_weight', weight)
        self.reset_parameters()
        self.bias = nn.Parameter(torch.zeros(self.conv_channels))
        self.scale = nn.Parameter(torch.ones(self.conv_channels))
        for level in range(levels):
            setattr(self, f'level{level}_scale', nn.Parameter(torch.full((BANDS * self.conv_channels,), 0.1)))

    @classmethod
    def from_pelk(cls, channels: int, kernel_size: int, *, conv_ratio: float, small_kernel: int) -> WaveletConv:
        """``small_kernel`` is k; the levels are the fewest that see ``kernel_size`` pixels."""
        check_odd('small_kernel', small_kernel)
        levels = 0
        while small_kernel * 2**levels < kernel_size:
            levels += 1
        return cls(channels, small_kernel, levels, conv_ratio=conv_ratio)

    def branches(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The convolutions on (N, g, H, W), same shape; scales are multiplied into the kernels, which are smaller."""
        weight, level_weights = self._scaled()
        return wavelet_conv2d(x, weight, level_weights, self.bias * self.scale)

    def deployed_branch(self, x: Tensor, pos_embed: Tensor | None) -> Tensor:
        """The convolutions on (N, g, H, W), same shape."""
        return wavelet_conv2d(x, self.weight, self._level('weight'), self.bias)

    def dense_kernel(self) -> Tensor:
        """What the convolved channels are correlated with on average over the 2^L x 2^L places of a pixel in its cell.

        (g, K, K): a level's kernel, 2^l pixels between its taps, each spread by the autocorrelation of its wavelet.
        """
        weight, level_weights = (self.weight, self._level('weight')) if self.deployed else self._scaled()
        kernel = in_square(weight, self.kernel_size)
        for level, taps in enumerate(level_weights, start=1):
            step = 2**level
            wavelets = self._wavelets(step, taps)
            spread = F.conv2d(wavelets, wavelets.transpose(0, 1), padding=step - 1, groups=BANDS).view(
                BANDS, 1, 2 * step - 1, -1
            )
            shared = F.conv_transpose2d(taps.unflatten(0, (-1, BANDS)).squeeze(2), spread / step**2, stride=step)
            kernel = kernel + in_square(shared, self.kernel_size)
        return kernel

    @staticmethod
    def _wavelets(step: int, like: Tensor) -> Tensor:
        """The four of step x step pixels: mean, top minus bottom, left minus right, diagonal, (1, 4, step, step)."""
        ones = like.new_ones(step // 2)
        plain, signed = torch.cat([ones, ones]), torch.cat([ones, -ones])
        pairs = ((plain, plain), (signed, plain), (plain, signed), (signed, signed))
        return torch.stack([torch.outer(rows, columns) for rows, columns in pairs]).unsqueeze(0) / step

    @torch.no_grad()
    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Multiply the scales into the kernels and the bias, in place; idempotent.

        Args:
            pos_embed: None: this mixer reads no embedding.

        Raises:
            ValueError: An embedding was given.
        """
        self._check_pos_embed(pos_embed)
        if self.deployed:
            return
        scales = [self.scale, *self._level('scale')]
        for scale in ['scale', *(f'level{level}_scale' for level in range(self.levels))]:
            delattr(self, scale)
        self._multiply([scale.double() for scale in scales])
        self.deployed = True

    def scale_output(self, scale: Tensor, shift: Tensor) -> None:
        """Fold y -> scale * y + shift, each (C,) in float64, into the kernels and the bias.

        Raises:
            NotImplementedError: Some channels pass, and no weight could scale them.
            RuntimeError: Not deployed yet.
        """
        self._check_scalable()
        self._multiply([scale, *[scale.repeat_interleave(BANDS)] * self.levels], shift)

    @torch.no_grad()
    def _multiply(self, scales: list[Tensor], shift: Tensor | None = None) -> None:
        names = ['weight', *(f'level{level}_weight' for level in range(self.levels))]
        values = {name: getattr(self, name) * s[:, None, None, None] for name, s in zip(names, scales, strict=True)}
        values['bias'] = self.bias * scales[0] + (0 if shift is None else shift)
        for name, value in values.items():
            old = getattr(self, name)
            setattr(self, name, nn.Parameter(value.to(old.dtype), requires_grad=old.requires_grad))

    def _scaled(self) -> tuple[Tensor, list[Tensor]]:
        pairs = zip(self._level('weight'), self._level('scale'), strict=True)
        return (
            self.weight * self.scale[:, None, None, None],
            [weight * scale[:, None, None, None] for weight, scale in pairs],
        )

    def _level(self, kind: str) -> list[nn.Parameter]:
        return [getattr(self, f'level{level}_{kind}') for level in range(self.levels)]

    def extra_repr(self) -> str:
        """Channels, kernel, levels and form."""
        return (
            f'{self.channels}, conv_channels={self.conv_channels}, kernel_size={self.small_kernel}, '
            f'levels={self.levels}, deployed={self.deployed}'
        )
