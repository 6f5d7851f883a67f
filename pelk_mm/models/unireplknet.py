"""UniRepLKNet: a universal perception large-kernel ConvNet (Ding et al., CVPR 2024, arXiv 2311.15599)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..layers import DepthwiseConv, DilatedReparamConv
from ..registry import MODELS, register
from ..utils.checks import check_odd, check_sequence
from .unirep_skeleton import UniRepBackbone

#: Kernels from this size on are re-parameterised; smaller ones are plain depthwise convolutions.
SMALLEST_DILATED = 7


@register(MODELS)
class UniRepLKNet(UniRepBackbone):
    """UniRepLKNet backbone: :class:`DilatedReparamConv` and plain small kernels in turn.

    Args:
        arch: 'atto', 'femto', 'pico', 'nano', 'tiny', 'small', 'base', 'large', 'xlarge': the authors' A to XL; or
            ``dict(depths=..., channels=...)`` with four entries each.
        in_channels: Channels of the image.
        kernel_sizes: K of every block, a sequence for each stage, odd and at least 3; from 7 on with dilated branches.
            None for the authors' plan: 3 in stage 1, 13 elsewhere, but in a stage 3 of more than 9 blocks only every
            second, of more than 18 every third, and 3 between.
        **kwargs: Every other argument of :class:`UniRepBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings = {
        'atto': {'depths': (2, 2, 6, 2), 'channels': (40, 80, 160, 320)},
        'femto': {'depths': (2, 2, 6, 2), 'channels': (48, 96, 192, 384)},
        'pico': {'depths': (2, 2, 6, 2), 'channels': (64, 128, 256, 512)},
        'nano': {'depths': (2, 2, 8, 2), 'channels': (80, 160, 320, 640)},
        **UniRepBackbone.arch_settings,
        'xlarge': {'depths': (3, 3, 27, 3), 'channels': (256, 512, 1024, 2048)},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        kernel_sizes: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        if kernel_sizes is not None:
            kernel_sizes = _check_kernel_sizes(kernel_sizes)
        self.kernel_sizes = kernel_sizes
        super().__init__(arch, in_channels, **kwargs)

    def build_mixer(self, stage: int, block: int, channels: int) -> DepthwiseConv:
        """A re-parameterised large kernel or a plain small one, as the plan has it."""
        size = self._kernel_size(stage, block)
        if size < SMALLEST_DILATED:
            return DepthwiseConv(channels, size)
        return DilatedReparamConv(channels, size, norm_cfg=self.branch_norm_cfg)

    def _kernel_size(self, stage: int, block: int) -> int:
        depth = self.depths[stage]
        if self.kernel_sizes is not None:
            if len(self.kernel_sizes[stage]) != depth:
                raise ValueError(
                    f'kernel_sizes must have {depth} entries for the blocks of stage {stage + 1}, '
                    f'but got {self.kernel_sizes[stage]!r}'
                )
            return self.kernel_sizes[stage][block]
        return planned_kernel_size(stage, block, depth)


def planned_kernel_size(stage: int, block: int, depth: int) -> int:
    """K by the authors' plan, in a stage of ``depth`` blocks."""
    if stage == 0:
        return 3
    period = 1 if stage != 2 or depth <= 9 else 2 if depth <= 18 else 3
    return 3 if block % period else 13


def _check_kernel_sizes(kernel_sizes: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    check_sequence('kernel_sizes', kernel_sizes)
    if len(kernel_sizes) != 4:
        raise ValueError(f'kernel_sizes must have one entry for each of the 4 stages, but got {kernel_sizes!r}')
    for sizes in kernel_sizes:
        check_sequence('every entry of kernel_sizes', sizes)
        for size in sizes:
            check_odd('every kernel size', size)
            if size < 3:
                raise ValueError(f'every kernel size must be at least 3, but got {size}')
    return kernel_sizes
