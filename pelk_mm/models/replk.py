"""RepLK-51: RepLKNet's dense large kernel in PeLK's skeleton, the comparison of the SLaK and PeLK papers."""

from __future__ import annotations

from ..layers import DenseConv
from ..registry import MODELS, register
from .convnext_skeleton import LargeKernelConvNeXt


@register(MODELS)
class RepLK51(LargeKernelConvNeXt):
    """ConvNeXt with :class:`DenseConv`: a dense K x K beside a 5 x 5 kernel (RepLKNet, arXiv 2203.06717, section 3).

    RepLKNet itself, with its own stages, is mmpretrain's. Arguments and errors are those of
    :class:`LargeKernelConvNeXt`; ``small_kernel=None`` leaves the small kernel out.
    """

    mixer_class = DenseConv
