"""Token mixers, norms and blocks."""

from .block import LargeKernelBlock, ResidualBlock
from .drop_path import DropPath
from .grn import GlobalResponseNorm
from .mixers.aggregator import ReceptiveFieldAggregator
from .mixers.base import TokenMixer
from .mixers.dense import DenseConv
from .mixers.depthwise import DepthwiseConv
from .mixers.dilated import DilatedReparamConv
from .mixers.inception import InceptionConv
from .mixers.partial import PartialConv
from .mixers.peripheral import PeripheralConv2d
from .mixers.shiftwise import ShiftwiseConv
from .mixers.stripe import StripeConv
from .mixers.table import MIXERS
from .mixers.wavelet import WaveletConv
from .mixers.window import WindowConv
from .norm import LayerNorm2d
from .squeeze_excite import SqueezeExcite
from .uniconv_block import DeformableConv, UniConvBlock
from .unirep_block import UniRepBlock

__all__ = [
    'MIXERS',
    'DeformableConv',
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
    'ReceptiveFieldAggregator',
    'ResidualBlock',
    'ShiftwiseConv',
    'SqueezeExcite',
    'StripeConv',
    'TokenMixer',
    'UniConvBlock',
    'UniRepBlock',
    'WaveletConv',
    'WindowConv',
]
