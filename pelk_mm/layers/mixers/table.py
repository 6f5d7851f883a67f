"""The mixers that ``mixer=`` names in a config."""

from __future__ import annotations

from collections.abc import Mapping

from .base import TokenMixer
from .dense import DenseConv
from .dilated import DilatedReparamConv
from .inception import InceptionConv
from .peripheral import PeripheralConv2d
from .shiftwise import ShiftwiseConv
from .stripe import StripeConv
from .wavelet import WaveletConv
from .window import WindowConv

#: Mixers by the name that ``mixer=`` takes in a config.
MIXERS: Mapping[str, type[TokenMixer]] = {
    'peripheral': PeripheralConv2d,
    'dense': DenseConv,
    'stripe': StripeConv,
    'dilated': DilatedReparamConv,
    'inception': InceptionConv,
    'shiftwise': ShiftwiseConv,
    'wavelet': WaveletConv,
    'window': WindowConv,
}


def find_mixer(name: str) -> type[TokenMixer]:
    """The mixer that ``mixer=name`` means.

    Raises:
        ValueError: An unknown name; the message lists them.
    """
    if not isinstance(name, str) or name not in MIXERS:
        raise ValueError(f'mixer must be one of {", ".join(MIXERS)}, but got {name!r}')
    return MIXERS[name]
