"""WBMM: window batch matrix multiplication instead of large depthwise kernels (ICML 2026, arXiv 2607.02097)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..layers import DepthwiseConv, TokenMixer, WindowConv
from ..registry import MODELS, register
from ..utils.checks import check_flag, check_int, check_sequence
from .unirep_skeleton import UniRepBackbone


@register(MODELS)
class WBMMNet(UniRepBackbone):
    """WBMM backbone: :class:`WindowConv` and 3 x 3 depthwise convolutions in turn, in UniRepLKNet's skeleton.

    Args:
        arch: 'pico', 'nano', 'tiny', 'small': the authors' P to S; or ``dict(depths=..., channels=...)`` with four
            entries each.
        in_channels: Channels of the image.
        window_size: Side of the windows, an int or one for each stage.
        windows_in_first_stage: Windows in every second block of stage 1 too, as the authors have it for dense tasks,
            whose checkpoints then fit; by default 3 x 3 only, as they have it for classification.
        parallel_kernels: Sizes of the kernels beside the windows of stage 4; None for the authors' (5, 3) in 'pico' and
            'nano' and none elsewhere.
        **kwargs: Every other argument of :class:`UniRepBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings = {
        'pico': {'depths': (2, 2, 6, 2), 'channels': (64, 128, 256, 512)},
        'nano': {'depths': (2, 2, 8, 2), 'channels': (80, 160, 320, 640)},
        'tiny': UniRepBackbone.arch_settings['tiny'],
        'small': UniRepBackbone.arch_settings['small'],
    }

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        window_size: int | Sequence[int] = 7,
        windows_in_first_stage: bool = False,
        parallel_kernels: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        sizes: Sequence[int] = (window_size,) * 4 if isinstance(window_size, int) else window_size
        check_sequence('window_size', sizes)
        if len(sizes) != 4:
            raise ValueError(f'window_size must be an int or one for each of the 4 stages, but got {window_size!r}')
        for size in sizes:
            check_int('window_size', size, 1)
        check_flag('windows_in_first_stage', windows_in_first_stage)
        if parallel_kernels is None:
            parallel_kernels = (5, 3) if arch in ('pico', 'nano') else ()
        self.window_sizes, self.parallel_kernels = tuple(sizes), parallel_kernels
        self.windows_in_first_stage = windows_in_first_stage
        super().__init__(arch, in_channels, **kwargs)

    def build_mixer(self, stage: int, block: int, channels: int) -> TokenMixer:
        """A window product or a 3 x 3 convolution, as the plan has it."""
        if not has_window(stage, block, self.depths[stage], self.windows_in_first_stage):
            return DepthwiseConv(channels, 3)
        return WindowConv(
            channels,
            self.window_sizes[stage],
            parallel_kernels=self.parallel_kernels if stage == 3 else (),
            norm_cfg=self.branch_norm_cfg,
        )


def has_window(stage: int, block: int, depth: int, in_first_stage: bool) -> bool:
    """Whether a block mixes within windows by the authors' plan, in a stage of ``depth`` blocks."""
    if stage == 0 and not in_first_stage:
        return False
    period = 1 if stage == 3 else 3 if stage == 2 and depth > 18 else 2
    return block % period == 0
