"""The mixers that ``mixer=`` names in a config, and how PeLK's arguments build each of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ...utils.checks import check_odd
from .base import TokenMixer
from .dense import DenseConv
from .dilated import DilatedReparamConv
from .inception import InceptionConv
from .partial import count_conv_channels
from .peripheral import PeripheralConv2d
from .shiftwise import ShiftwiseConv
from .stripe import StripeConv

#: Mixers by the name that ``mixer=`` takes in a config.
MIXERS: Mapping[str, type[TokenMixer]] = {
    'peripheral': PeripheralConv2d,
    'dense': DenseConv,
    'stripe': StripeConv,
    'dilated': DilatedReparamConv,
    'inception': InceptionConv,
    'shiftwise': ShiftwiseConv,
}


def mixer_builder(name: str) -> tuple[Callable[..., TokenMixer], frozenset[str]]:
    """What builds the mixer ``name`` from (channels, kernel_size) and others of PeLK's arguments, and which it takes.

    Raises:
        ValueError: An unknown name; the message lists them.
    """
    if not isinstance(name, str) or name not in MIXERS:
        raise ValueError(f'mixer must be one of {", ".join(MIXERS)}, but got {name!r}')
    builder = _TRANSLATED.get(name, MIXERS[name])
    return builder, frozenset(inspect.signature(builder).parameters)


def _inception(channels: int, kernel_size: int, *, conv_ratio: float, small_kernel: int) -> InceptionConv:
    """Each of the three convolutions takes a third: PeLK's 3/8 of the channels are InceptionNeXt's own 1/8."""
    each = count_conv_channels(channels, conv_ratio) // 3
    if each < 1:
        raise ValueError(
            f'conv_ratio={conv_ratio} of {channels} channels leaves none for each of the three convolutions of '
            "mixer='inception'; raise one of them"
        )
    check_odd('small_kernel', small_kernel)
    # half a channel more: the ratio is multiplied and truncated again
    ratio = min((each + 0.5) / channels, 1 / 3)
    return InceptionConv(channels, branch_ratio=ratio, square_kernel=small_kernel, band_kernel=kernel_size)


def _shiftwise(
    channels: int, kernel_size: int, *, conv_ratio: float, small_kernel: int, norm_cfg: Mapping[str, Any] | None
) -> ShiftwiseConv:
    """``small_kernel`` is the size of the filters that the large kernel is made of."""
    passed = channels - count_conv_channels(channels, conv_ratio)
    ratio = (passed + 0.5) / channels  # half a channel more: it is multiplied and truncated again
    return ShiftwiseConv(
        channels, kernel_size, ghost_ratio=ratio, small_kernel=small_kernel, even=False, norm_cfg=norm_cfg
    )


#: Mixers whose own arguments have other names or meanings than PeLK's.
_TRANSLATED: Mapping[str, Callable[..., TokenMixer]] = {'inception': _inception, 'shiftwise': _shiftwise}
