"""Tensors in, tensors out: the convolutions, their back-ends, and the layouts around them. Imports torch alone."""

from .backends.choice import available_backends, set_backend
from .deformable import dcnv3
from .depthwise import depthwise_conv2d
from .grid import SharingGrid
from .layout import join_norm, open_block, to_planes
from .neighbourhood import neighbourhood_gather
from .peripheral import peripheral_conv2d
from .shiftwise import shiftwise_conv2d
from .visible import visible_sum
from .wavelet import wavelet_conv2d
from .window import window_conv2d

__all__ = [
    'SharingGrid',
    'available_backends',
    'dcnv3',
    'depthwise_conv2d',
    'join_norm',
    'neighbourhood_gather',
    'open_block',
    'peripheral_conv2d',
    'set_backend',
    'shiftwise_conv2d',
    'to_planes',
    'visible_sum',
    'wavelet_conv2d',
    'window_conv2d',
]
