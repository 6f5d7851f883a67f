"""Backbones, registered in the ``pelk_mm`` scope and in mmengine's root."""

from .pelk import PeLK
from .skeleton import LargeKernelBackbone

__all__ = ['LargeKernelBackbone', 'PeLK']
