"""Token mixers, norms and blocks."""

from .block import LargeKernelBlock, ResidualBlock
from .dense import DenseConv
from .drop_path import DropPath
from .mixer import TokenMixer
from .norm import LayerNorm2d
from .partial import PartialConv
from .peripheral import PeripheralConv2d
from .stripe import StripeConv

#: Mixers by the name that ``mixer=`` takes in a config.
MIXERS: dict[str, type[PartialConv]] = {'peripheral': PeripheralConv2d, 'dense': DenseConv, 'stripe': StripeConv}

__all__ = [
    'MIXERS',
    'DenseConv',
    'DropPath',
    'LargeKernelBlock',
    'LayerNorm2d',
    'PartialConv',
    'PeripheralConv2d',
    'ResidualBlock',
    'StripeConv',
    'TokenMixer',
]
