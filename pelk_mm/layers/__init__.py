"""Token mixers, norms and blocks."""

from .block import LargeKernelBlock, ResidualBlock
from .dense import DenseConv
from .depthwise import DepthwiseConv
from .dilated import DilatedReparamConv
from .drop_path import DropPath
from .grn import GlobalResponseNorm
from .inception import InceptionConv
from .mixer import TokenMixer
from .mixer_table import MIXERS
from .norm import LayerNorm2d
from .partial import PartialConv
from .peripheral import PeripheralConv2d
from .shiftwise import ShiftwiseConv
from .squeeze_excite import SqueezeExcite
from .stripe import StripeConv
from .unirep_block import UniRepBlock

__all__ = [
    'MIXERS',
    'DenseConv',
    'DepthwiseConv',
    'DilatedReparamConv',
    'DropPath',
    'GlobalResponseNorm',
    'InceptionConv',
    'LargeKernelBlock',
    'LayerNorm2d',
    'PartialConv',
    'PeripheralConv2d',
    'ResidualBlock',
    'ShiftwiseConv',
    'SqueezeExcite',
    'StripeConv',
    'TokenMixer',
    'UniRepBlock',
]
