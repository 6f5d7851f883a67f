"""Measuring the ops and backbones: correctness gate first, then interleaved timings."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import LargeKernelBlock, TokenMixer
from ..models import LargeKernelBackbone, PeLK
from ..ops import SharingGrid, peripheral_conv2d

#: Largest max|error| / max|reference| against float64 with which ``fft`` is timed; stock ones may err ten times more.
ERROR_BARS = {torch.float32: 2e-6, torch.float64: 1e-12, torch.float16: 2e-3, torch.bfloat16: 2e-2}


class GateError(RuntimeError):
    """A variant gives wrong numbers; its speed is of no interest."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one variant: median and extremes of ``repeats`` runs."""

    name: str
    median: float
    minimum: float
    maximum: float
    repeats: int
    error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a figure depends on: processor, threads, versions."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        names = [line.split(':', 1)[1].strip() for line in cpuinfo.read_text().splitlines() if 'model name' in line]
        processor = names[0] if names else processor
    machine: dict[str, Any] = {
        'processor': processor,
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'python': platform.python_version(),
    }
    if device.type == 'cuda':
        machine |= {'gpu': torch.cuda.get_device_name(device), 'cuda': torch.version.cuda}
    return machine


def time_interleaved(
    variants: Mapping[str, Callable[[], object]], *, device: torch.device, repeats: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of each variant, one run of each in turn, so that a drift of the machine meets all of them.

    Raises:
        ValueError: ``repeats`` below 1 or ``warmup`` below 0.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f'repeats must be at least 1 and warmup at least 0, but got {repeats} and {warmup}')
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warmup + repeats):
        for name, run in variants.items():
            _synchronise(device)
            start = time.perf_counter()
            run()
            _synchronise(device)
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def benchmark_op(
    *,
    kernel_size: int = 51,
    central_size: int = 5,
    channels: int = 36,
    size: tuple[int, int] = (56, 56),
    batch: int = 8,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = 'cpu',
    backward: bool = False,
    repeats: int = 9,
) -> list[Timing]:
    """Time one peripheral convolution by ``fft`` beside stock convolutions of the same kernel and of 7x7.

    ``stock`` is ``F.conv2d`` on the expanded kernel and contiguous images, ``stock nhwc`` the same in channels-last.

    The random numbers come from a generator of its own. With ``backward``, forward and all three gradients.

    Raises:
        GateError: A back-end's output is further from float64 than ``ERROR_BARS`` allows.
    """
    device = torch.device(device)
    grid = SharingGrid.exponential(kernel_size, central_size)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(device, dtype).requires_grad_(backward)

    x, bias = draw(batch, channels, *size), draw(channels)
    weight, small = draw(channels, grid.num_segments, grid.num_segments), draw(channels, 1, 7, 7)
    cotangent = torch.ones_like(x)

    def run(function: Callable[[], Tensor], leaves: Sequence[Tensor]) -> None:
        out = function()
        if backward:
            torch.autograd.grad(out, leaves, cotangent)

    kernel = grid.expand(weight).detach().requires_grad_(backward)
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(backward)

    def stock(image: Tensor) -> Tensor:
        return F.conv2d(image, kernel, bias, padding=kernel_size // 2, groups=channels)

    def fft() -> Tensor:
        return peripheral_conv2d(x, weight, grid, bias, backend='fft')

    def seven() -> Tensor:
        return F.conv2d(x, small, bias, padding=3, groups=channels)

    functions: dict[str, tuple[Callable[[], Tensor], tuple[Tensor, ...]]] = {
        'stock': (lambda: stock(x), (x, kernel, bias)),
        'stock nhwc': (lambda: stock(last), (last, kernel, bias)),
        'fft': (fft, (x, weight, bias)),
    }
    # Two images are enough to find a wrong number, and float64 is slow.
    sample = [t.detach().double() for t in (x[:2], weight, bias)]
    exact = peripheral_conv2d(sample[0], sample[1], grid, sample[2], backend='dense')
    errors = {
        name: _gate(
            f'{name} K={kernel_size}', function()[:2], exact, ERROR_BARS[dtype] * (10 if 'stock' in name else 1)
        )
        for name, (function, _) in functions.items()
    }
    if backward:
        _gate_gradients(functions, sample, grid, exact, ERROR_BARS[dtype])
    variants = {name: partial(run, *function_and_leaves) for name, function_and_leaves in functions.items()}
    variants['stock 7x7'] = partial(run, seven, (x, small, bias))
    with torch.set_grad_enabled(backward):
        seconds = time_interleaved(variants, device=device, repeats=repeats)
    return summarise(seconds, errors)


def benchmark_model(
    *,
    arch: str = 'tiny',
    size: int = 224,
    batch: int = 4,
    device: torch.device | str = 'cpu',
    repeats: int = 7,
) -> tuple[list[Timing], dict[str, str]]:
    """Time evaluation of deployed PeLK and its rivals of the same width and depth.

    ``convnext`` is mmpretrain's; ``7x7`` and ``stripe`` are this package's skeleton with stock convolutions: 7x7 on all
    channels, and SLaK's pair K x 5 + 5 x K on all channels, small kernel merged, on contiguous images as in its
    authors' code. ``stripe nhwc`` runs the same pair in channels-last layout.

    Returns:
        The timings, and for each rival that could not be built the reason.

    Raises:
        GateError: Deployment changes the output.
    """
    device = torch.device(device)
    x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    errors: dict[str, float] = {}
    nets: dict[str, nn.Module] = {}
    for name, kernels, central in (('pelk', (51, 49, 47, 13), 5), ('pelk-101', (101, 69, 67, 13), 7)):
        net = PeLK(arch, kernel_sizes=kernels, central_size=central, layer_scale_init_value=1.0).to(device).eval()
        _randomise_norms(net)
        with torch.inference_mode():
            expected = net(x[:1])[0]
            net.switch_to_deploy()
            errors[name] = _gate(f'deployed {name}', net(x[:1])[0], expected, 1e-5)
        nets[name] = net
    nets['7x7'] = _with_mixers(PeLK(arch, pos_embed=None), lambda channels, _: _StockConv(channels, [(7, 7)]))
    for name, layout in (('stripe', torch.contiguous_format), ('stripe nhwc', torch.channels_last)):
        nets[name] = _with_mixers(PeLK(arch, pos_embed=None), partial(_stripes, layout))
    skipped = {}
    try:
        from mmpretrain.models import ConvNeXt

        pelk = nets['pelk']
        assert isinstance(pelk, PeLK)
        nets['convnext'] = ConvNeXt(arch={'depths': list(pelk.depths), 'channels': list(pelk.channels)})
    except ImportError as error:
        skipped['convnext'] = f'mmpretrain cannot be imported ({error})'
    with torch.inference_mode():
        for net in nets.values():
            net.to(device)
            net.eval()  # apart: mmpretrain's returns None
        variants = {name: partial(net, x) for name, net in nets.items()}
        seconds = time_interleaved(variants, device=device, repeats=repeats)
    return summarise(seconds, errors), skipped


class _StockConv(TokenMixer):
    """Sum of stock depthwise convolutions over all channels: a rival, as its authors would deploy it."""

    def __init__(
        self,
        channels: int,
        kernels: Sequence[tuple[int, int]],
        layout: torch.memory_format = torch.preserve_format,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, k, padding=(k[0] // 2, k[1] // 2), groups=channels, bias=i == 0)
            for i, k in enumerate(kernels)
        )

    def forward(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        if self.layout is not torch.preserve_format:
            x = x.contiguous(memory_format=self.layout)
        out = self.convs[0](x)
        for conv in list(self.convs)[1:]:
            out = out + conv(x)
        return out


def _stripes(layout: torch.memory_format, channels: int, kernel_size: int) -> _StockConv:
    return _StockConv(channels, [(kernel_size, 5), (5, kernel_size)], layout)


def _with_mixers(net: LargeKernelBackbone, mixer: Callable[[int, int], TokenMixer]) -> LargeKernelBackbone:
    """Replace every mixer by ``mixer(channels, kernel_size)``."""
    for block in net.modules():
        if isinstance(block, LargeKernelBlock):
            block.mixer = mixer(block.mixer.channels, block.mixer.grid.kernel_size)  # type: ignore[arg-type,union-attr]
    return net


def _randomise_norms(net: nn.Module) -> None:
    """Statistics and affine parameters that a wrong merge cannot get right by luck."""
    generator = torch.Generator().manual_seed(0)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            channels = norm.num_features
            norm.running_mean.copy_(torch.randn(channels, generator=generator))  # type: ignore[union-attr]
            norm.running_var.copy_(torch.rand(channels, generator=generator) + 0.5)  # type: ignore[union-attr]
            norm.weight.data.copy_(torch.rand(channels, generator=generator) + 0.5)
            norm.bias.data.copy_(torch.randn(channels, generator=generator))


def _gate_gradients(
    functions: Mapping[str, tuple[Callable[[], Tensor], tuple[Tensor, ...]]],
    sample: Sequence[Tensor],
    grid: SharingGrid,
    exact: Tensor,
    bar: float,
) -> None:
    """Gate every variant's gradients, under the cotangent that is 1 on the sample's images and 0 on the others."""
    leaves = [t.detach().requires_grad_() for t in sample]
    out = peripheral_conv2d(leaves[0], leaves[1], grid, leaves[2], backend='dense')
    expected = torch.autograd.grad(out, leaves, torch.ones_like(exact))
    for name, (function, tensors) in functions.items():
        out = function()
        cotangent = torch.zeros_like(out)
        cotangent[: len(exact)] = 1
        d_input, d_weight, d_bias = torch.autograd.grad(out, tensors, cotangent)
        if d_weight.ndim == 4:  # of the expanded kernel
            d_weight = grid.pool(d_weight.double())
        for what, actual, reference in zip(
            ('input', 'weight', 'bias'), (d_input[: len(exact)], d_weight, d_bias), expected, strict=True
        ):
            _gate(f'the gradient of {what} by {name}', actual, reference, 10 * bar)


def _gate(name: str, actual: Tensor, expected: Tensor, bar: float) -> float:
    error = float((actual.detach().double() - expected.double()).abs().max() / expected.double().abs().max())
    if not error < bar:  # catches NaN too
        raise GateError(f'{name} is wrong by {error:.2e} of the largest output, above the bar of {bar:.0e}: not timed')
    return error


def summarise(seconds: Mapping[str, list[float]], errors: Mapping[str, float]) -> list[Timing]:
    """Medians and extremes of what :func:`time_interleaved` returns; ``errors`` of those that have one."""
    return [
        Timing(name, statistics.median(times), min(times), max(times), len(times), errors.get(name))
        for name, times in seconds.items()
    ]


def _synchronise(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
