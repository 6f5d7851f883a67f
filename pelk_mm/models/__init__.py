"""Backbones, and what stands behind some of them, registered in the ``pelk_mm`` scope and in mmengine's root."""

from .inceptionnext import InceptionNeXt
from .mlp_neck import MlpNeck
from .overlock import OverLoCK
from .overlock_head import OverLoCKHead
from .pelk import PeLK
from .replk import RepLK51
from .shiftwisenet import ShiftWiseNet, ShiftWiseNetV1
from .skeleton import LargeKernelBackbone
from .slak import SLaK
from .uniconvnet import UniConvNet
from .unireplknet import UniRepLKNet
from .wbmm import WBMMNet
from .wtconvnext import WTConvNeXt

__all__ = [
    'InceptionNeXt',
    'LargeKernelBackbone',
    'MlpNeck',
    'OverLoCK',
    'OverLoCKHead',
    'PeLK',
    'RepLK51',
    'SLaK',
    'ShiftWiseNet',
    'ShiftWiseNetV1',
    'UniConvNet',
    'UniRepLKNet',
    'WBMMNet',
    'WTConvNeXt',
]
