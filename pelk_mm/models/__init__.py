"""Backbones, and the neck of one of them, registered in the ``pelk_mm`` scope and in mmengine's root."""

from .inceptionnext import InceptionNeXt
from .mlp_neck import MlpNeck
from .pelk import PeLK
from .replk import RepLK51
from .shiftwisenet import ShiftWiseNet, ShiftWiseNetV1
from .skeleton import LargeKernelBackbone
from .slak import SLaK
from .unireplknet import UniRepLKNet

__all__ = [
    'InceptionNeXt',
    'LargeKernelBackbone',
    'MlpNeck',
    'PeLK',
    'RepLK51',
    'SLaK',
    'ShiftWiseNet',
    'ShiftWiseNetV1',
    'UniRepLKNet',
]
