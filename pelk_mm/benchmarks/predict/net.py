"""Predicted time of a whole PeLK-T on an H100, item by item: what is multiplied, and what is moved how often.

Batch 128 at 224 px under bfloat16 autocast: the residual stream is float32, channels-last. A stage's block holds ``e``
elements (N H W C), of which the convolution takes ``m``. Convolutions, and the kernels between rows and planes, are
counted from machine code. The rest is bytes and products over assumed rates, which no measurement of ours supports yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from ...layers.mixers.partial import count_conv_channels
from ...layers.padded import padded_width
from ...models.convnext_skeleton import LargeKernelConvNeXt
from ...ops.backends import triton_layout
from ...ops.backends.triton_start import planned
from .clocks import CLOCK, ELEMENTWISE_BYTES, MULTIPROCESSORS
from .ops import H100, Case, OtherKernels, launch_seconds, predict_forward, predict_weight_gradient
from .passes import passes_of

BATCH, SIDE, WIDTH_FACTOR, KERNEL_SIZES, SMALL_KERNEL = 128, 224, 1.3, (51, 49, 47, 13), 5
#: Assumed: what cuBLAS reaches in bfloat16 where rows are multiples of 8 bytes; half of it where they are not.
LINEAR_FLOPS, UNALIGNED = 480e12, 0.5
#: Assumed: 32 bytes of the second cache for each element that one side reads or writes alone, at this rate.
UNCOALESCED_BYTES, CACHE_BYTES = 32, 5e12
#: Clocks a pixel of stock 5 x 5 convolutions, forward and both gradients, by the instructions of torch's kernels.
STOCK_SMALL = 4.3, 3.9, 9.4
#: ConvNeXt-T of the same widths with stock 7 x 7 kernels in channels-last layout, seconds, and from where to where they
#: may lie: assumed from published throughputs on an A100, not measured.
CONVNEXT = {'evaluation': 21.4e-3, 'training': 68e-3}
CONVNEXT_RANGE = {'evaluation': (19e-3, 24e-3), 'training': (54e-3, 98e-3)}


@dataclass(frozen=True)
class Layer:
    """What the layer around the convolution does, as switches.

    Attributes:
        layout: One pass each way between channels-last blocks and planes, LayerNorm in it.
        scaled_weights: In evaluation too gamma scales the weights, not the activations.
        padded: Linears on rows of whole 16 bytes.
        small_kernels: The parallel 5 x 5 through the same kernels as the large one.
    """

    layout: bool = False
    scaled_weights: bool = False
    padded: bool = False
    small_kernels: bool = False


#: What this version does.
CURRENT = Layer(layout=True, scaled_weights=True, padded=True, small_kernels=True)


@dataclass(frozen=True)
class _Stage:
    """The blocks of a stage."""

    blocks: int
    channels: int
    side: int
    kernel_size: int

    @property
    def convolved(self) -> int:
        return count_conv_channels(self.channels, 3 / 8)

    @property
    def e(self) -> float:
        """Elements of an activation."""
        return BATCH * self.side**2 * self.channels

    @property
    def m(self) -> float:
        """Those that are convolved."""
        return BATCH * self.side**2 * self.convolved

    @property
    def linear_flops(self) -> float:
        """Of both linears of a block."""
        return 16 * self.e * self.channels

    @property
    def aligned(self) -> bool:
        """Whether rows of both linears are multiples of 8 bytes."""
        return self.channels % 4 == 0

    def case(self, kernel_size: int) -> Case:
        return Case.of((BATCH, self.convolved, self.side, self.side), kernel_size)


def _stages() -> list[_Stage]:
    arch = LargeKernelConvNeXt.arch_settings['tiny']
    return [
        _Stage(depth, int(channels * WIDTH_FACTOR), SIDE // (4 << index), kernel)
        for index, (depth, channels, kernel) in enumerate(
            zip(arch['depths'], arch['channels'], KERNEL_SIZES, strict=True)
        )
    ]


def net_items(mode: str, layer: Layer = CURRENT) -> dict[str, float]:
    """Seconds of each item of PeLK-T.

    Args:
        mode: 'evaluation', of the deployed net, or 'training': one step with AdamW.
        layer: What the layer around the convolution does.
    """
    items: dict[str, float] = defaultdict(float)
    for stage in _stages():
        for name, seconds in (_evaluation if mode == 'evaluation' else _training)(stage, layer).items():
            items[name] += stage.blocks * seconds
    for name, seconds in _around(mode).items():
        items[name] += seconds
    return dict(items)


def net_ratio(mode: str, layer: Layer = CURRENT) -> float:
    """PeLK-T's predicted time over ConvNeXt-T's of the same widths."""
    return sum(net_items(mode, layer).values()) / CONVNEXT[mode]


def _moved(elements: float, bytes_each: float) -> float:
    return elements * bytes_each / ELEMENTWISE_BYTES


def _uncoalesced(elements: float) -> float:
    return elements * UNCOALESCED_BYTES / CACHE_BYTES


def _stock(elements: float, clocks: float) -> float:
    return elements * clocks / CLOCK / MULTIPROCESSORS


@cache
def _large(stage: _Stage, gradient: bool) -> float:
    return (predict_weight_gradient if gradient else predict_forward)(stage.case(stage.kernel_size)).seconds


@cache
def _small(stage: _Stage, gradient: bool) -> float:
    case = stage.case(stage.kernel_size)
    case = Case(case.shape, (1,) * SMALL_KERNEL)
    return (predict_weight_gradient if gradient else predict_forward)(case).seconds


@cache
def _layout(stage: _Stage) -> dict[str, float]:
    """Seconds of the kernels between rows and planes, by machine code or by bytes, whichever is longer."""
    n, c, g, side = BATCH, stage.channels, stage.convolved, stage.side
    x = torch.empty(n, side, side, c, device='meta').permute(0, 3, 1, 2)
    mixed = torch.empty(n, g, side, side, device='meta', dtype=torch.bfloat16)
    weight = torch.empty(c, device='meta')
    width = padded_width(c, torch.bfloat16)
    seconds = {}

    def predicted(name: str, moved: float, call: Callable[[], Any]) -> Any:
        with planned(H100) as launches, OtherKernels() as others:
            result = call()
        counted = sum(launch_seconds(launch, passes_of(launch, ()))[0] for launch in launches)
        seconds[name] = max(counted, moved / ELEMENTWISE_BYTES) + sum(others.seconds.values())
        return result

    e, m = stage.e, stage.m
    predicted('to planes', 6 * m, lambda: triton_layout.to_planes(x, g, torch.bfloat16))
    y, mean, rstd = predicted(
        'join and norm',
        2 * m + 4 * (e - m) + 2 * e,
        lambda: triton_layout.join_norm(mixed, x[:, g:], weight, weight, 1e-6, torch.bfloat16, width, True),
    )
    _, d_passed, *_ = predicted(
        'backward of join and norm',
        2 * e + 4 * m + 8 * (e - m),
        lambda: triton_layout.join_norm_backward(y, mixed, x[:, g:], weight, mean, rstd, (True,) * 4),
    )
    predicted(
        'backward of planes, with the sum',
        2 * m + 4 * (e - m) + 8 * e,
        lambda: triton_layout.open_block_backward(mixed, d_passed, x, x.shape, g, torch.float32),
    )
    return seconds


def _linears(stage: _Stage, layer: Layer) -> float:
    rate = LINEAR_FLOPS if stage.aligned or layer.padded else LINEAR_FLOPS * UNALIGNED
    return stage.linear_flops / rate


def _linears_forward(stage: _Stage, layer: Layer) -> dict[str, float]:
    padded = {'padded weights': _moved(stage.channels**2, 80)} if layer.padded else {}
    return {'linears': _linears(stage, layer), **padded}


def _ahead_of_linears(stage: _Stage, layer: Layer, casts: int) -> dict[str, float]:
    """From the residual stream to planes, and from planes to the first linear."""
    e, m = stage.e, stage.m
    if layer.layout:
        return {name: _layout(stage)[name] for name in ('to planes', 'join and norm')}
    return {
        'to half precision': casts * _moved(m, 6),
        'to planes': _uncoalesced(m),
        'concatenate': _moved(e - m, 8) + _moved(m, 4) + _uncoalesced(m),
        'norm': _moved(e, 8),
        'norm to half precision': _moved(e, 6),
    }


def _evaluation(stage: _Stage, layer: Layer) -> dict[str, float]:
    e = stage.e
    residual = (
        {'residual': _moved(e, 10)} if layer.scaled_weights else {'gamma': _moved(e, 6), 'residual': _moved(e, 12)}
    )
    return {
        'large convolution': _large(stage, gradient=False),
        **_ahead_of_linears(stage, layer, casts=1),
        **_linears_forward(stage, layer),
        'GELU': _moved(4 * e, 4),
        **residual,
    }


def _training(stage: _Stage, layer: Layer) -> dict[str, float]:
    e, m = stage.e, stage.m
    if layer.small_kernels:
        small, small_back = _small(stage, False), _small(stage, False) + _small(stage, True)
    else:
        small, small_back = _stock(m, STOCK_SMALL[0]), _stock(m, sum(STOCK_SMALL[1:]))
    if layer.layout:
        names = 'backward of join and norm', 'backward of planes, with the sum'
        backward = {name: _layout(stage)[name] for name in names}
        backward['sum of the convolutions'] = _moved(m, 6)
    else:
        backward = {
            'backward of norm': _moved(e, 6 + 12 + 8),
            'backward of the concatenation': _moved(e, 8) + _uncoalesced(m) + _moved(m, 6),
            'sum of gradients in two layouts': _moved(m, 12 + 12) + _moved(e, 12) + 2 * _uncoalesced(e),
        }
    return {
        'large convolution': _large(stage, gradient=False),
        'small convolution': small,
        'BatchNorms and their sum': _moved(m, 6 + 6 + 6),
        **_ahead_of_linears(stage, layer, casts=2),
        **_linears_forward(stage, layer),
        'GELU': _moved(4 * e, 4),
        'residual': _moved(e, 10),
        'backward of the residual': _moved(e, 6),
        'backward of linears': 2 * _linears(stage, layer),
        'backward of padded rows and weights': _moved(e, 6) + _moved(stage.channels**2, 48) if layer.padded else 0.0,
        'backward of GELU': _moved(4 * e, 6),
        **backward,
        'backward of BatchNorms': _moved(m, 10 + 10),
        'large convolution: gradient of the input': _large(stage, gradient=False),
        'large convolution: gradient of the weight': _large(stage, gradient=True),
        'small convolution: gradients': small_back,
    }


def _around(mode: str) -> dict[str, float]:
    """Stem, downsampling, and in training the optimizer."""
    stages = _stages()
    flops = 2.0 * 48 * stages[0].e
    moved = _moved(stages[0].e, 20)
    for before, after in zip(stages, stages[1:], strict=False):
        flops += 2 * after.e * 4 * before.channels
        moved += _moved(before.e, 14) + _moved(after.e, 6)
    weights = sum(stage.blocks * 8 * stage.channels**2 for stage in stages)
    times = {'evaluation': 1, 'training': 3}[mode]
    items = {'stem and downsampling': times * (flops / LINEAR_FLOPS / UNALIGNED + moved)}
    if mode == 'training':
        items['AdamW, and weights to half precision'] = _moved(weights, 28 + 6)
    return items
