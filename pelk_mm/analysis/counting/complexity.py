"""Parameters and multiply-adds of a classifier, segmentor or detector, in total and by component."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from ...models import LargeKernelBackbone
from .op_counter import OpCounter
from .paper_convention import PaperConvention, pos_embeds, small_branches
from .tensor_forward import tensor_forward

COMPONENTS = ('ffn', 'large_kernel', 'downsample', 'pos_embed', 'head')
#: Children of a block that mix its pixels: ours, and that of mmpretrain's ConvNeXt.
_MIXERS = ('mixer', 'depthwise_conv')


@dataclass(frozen=True)
class Complexity:
    """What :func:`count_complexity` returns.

    Attributes:
        params: All parameters of the model, auxiliary heads, h and training branches included.
        params_nonzero: The same, no net being sparse as built; at a sparsity those left by the paper's convention.
        macs: Multiply-adds of one image; the sum of ``macs_by_component``.
        macs_by_component: 'ffn' (the blocks but for their mixers), 'large_kernel' (the mixers), 'downsample' (stem and
            downsampling), 'pos_embed' (the sums of w * h), 'head' (everything behind the backbone's stages: output
            norms, neck, heads). Norms count where they stand. A backbone that is not built like ConvNeXt, or the part
            of one that is none of these, is 'other', a key that is absent where there is nothing of it.
        params_pos_embed: Parameters of h, part of ``params``.
    """

    params: int
    params_nonzero: int
    macs: int
    macs_by_component: Mapping[str, int]
    params_pos_embed: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def count_complexity(model: nn.Module, shape: Sequence[int], sparsity: float | None = None) -> Complexity:
    """Count one image of H x W pixels through backbone, neck and heads, without post-processing.

    Nothing is computed: the model runs on the meta device (a copy, where it is elsewhere), so weights play no part.
    One multiply-add counts one. Depthwise and peripheral convolutions count all taps of the dense kernel at every
    pixel, padding included, whatever back-end would run; everything else counts as mmengine counts it. What a
    two-stage detector is given is said in :mod:`~pelk_mm.analysis.counting.tensor_forward`.

    Args:
        model: Classifier, segmentor or detector with any backbone; it takes images of three channels, or of as many as
            a backbone of this package was built for.
        shape: (H, W).
        sparsity: None counts the model as it is. A number in [0, 1) counts by the paper's convention
            (:mod:`~pelk_mm.analysis.counting.paper_convention`) at this share of zero weights.

    Raises:
        ValueError: ``shape`` or ``sparsity`` is out of range, the model is of no known kind or too small an image for
            it, or it is deployed and a sparsity is asked for.
        RuntimeError: An operation of the model does not run on the meta device.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f'shape must be two positive numbers, height and width, but got {tuple(shape)}')
    convention = None if sparsity is None else PaperConvention(sparsity)
    if any(not tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        model = copy.deepcopy(model).to('meta')
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    params = sum(parameter.numel() for parameter in model.parameters())
    nonzero = params if convention is None else convention.params_nonzero(model)
    counter = OpCounter(model, list(small_branches(model)))
    try:
        with counter:
            tensor_forward(model, torch.empty(1, _image_channels(model), *shape, device='meta'))
    finally:
        for module in in_training:
            module.training = True
    exact: defaultdict[str, float] = defaultdict(float, dict.fromkeys(COMPONENTS, 0.0))
    blocks = _blocks(model)
    for name, operations in counter.counts.items():
        for operation, macs in operations.items():
            share = 1.0 if convention is None else convention.share(model, name, operation)
            if share * macs:
                exact[_component(name, operation, blocks, hasattr(model, 'backbone'))] += share * macs
    by_component = {component: round(macs) for component, macs in exact.items()}
    h = sum(parameter.numel() for parameter in pos_embeds(model))
    return Complexity(params, nonzero, sum(by_component.values()), by_component, h)


def _blocks(model: nn.Module) -> set[str]:
    """Names of the backbone's residual blocks, each of a mixer and an FFN."""
    return {
        name
        for name, module in model.named_modules()
        if name.startswith('backbone.stages.') and any(hasattr(module, mixer) for mixer in _MIXERS)
    }


def _component(module: str, operation: str, blocks: set[str], has_backbone: bool) -> str:
    """The component that an operation in the module named ``module`` belongs to."""
    parts = module.split('.')
    if parts[0] != 'backbone':
        return 'head' if has_backbone else 'other'
    if operation == 'visible_sum':
        return 'pos_embed'
    if not blocks:
        return 'other'
    if '.'.join(parts[:4]) in blocks:  # backbone.stages.{i}.{j}
        return 'large_kernel' if parts[4:5] and parts[4] in _MIXERS else 'ffn'
    if parts[1:2] == ['downsample_layers']:
        return 'downsample'
    if len(parts) == 1 or parts[1].removeprefix('norm').isdigit():  # pooling and norms of the outputs
        return 'head'
    return 'other'


def _image_channels(model: nn.Module) -> int:
    backbone = getattr(model, 'backbone', None)
    return backbone.in_channels if isinstance(backbone, LargeKernelBackbone) else 3
