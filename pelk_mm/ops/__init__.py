"""Tensors in, tensors out: the convolutions and their back-ends. Imports torch alone."""

from .backends.choice import available_backends, set_backend
from .depthwise import depthwise_conv2d
from .grid import SharingGrid
from .peripheral import peripheral_conv2d
from .shiftwise import shiftwise_conv2d
from .visible import visible_sum

__all__ = [
    'SharingGrid',
    'available_backends',
    'depthwise_conv2d',
    'peripheral_conv2d',
    'set_backend',
    'shiftwise_conv2d',
    'visible_sum',
]
