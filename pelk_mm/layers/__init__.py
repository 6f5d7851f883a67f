"""Token mixers, norms and blocks."""

from .block import LargeKernelBlock
from .drop_path import DropPath
from .mixer import TokenMixer
from .norm import LayerNorm2d
from .peripheral import PeripheralConv2d

#: Mixers by the name that ``mixer=`` takes in a config.
MIXERS = {'peripheral': PeripheralConv2d}

__all__ = ['MIXERS', 'DropPath', 'LargeKernelBlock', 'LayerNorm2d', 'PeripheralConv2d', 'TokenMixer']
