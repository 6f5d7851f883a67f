"""Evaluation of deployed PeLK beside its rivals of the same widths and depths."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import nn

from ..harness import GateError, Measured, Variant, check_run, gate, measure, reason
from ..machine import benchmark_settings, cache_bytes, check_device
from ..rotation import Rotation
from .rivals import NETS, PELKS, RIVALS, build_net, resolve_arch, weight_bytes

#: What ``dtype`` may be: float32, or autocast to one of the others.
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
#: Largest change of the output, over the largest output, with which a deployed net is timed.
DEPLOY_BAR = 1e-5


def benchmark_model(
    *,
    arch: str = 'tiny',
    channels: Sequence[int] | None = None,
    size: int = 224,
    batch: int = 4,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = 'cpu',
    repeats: int = 7,
    compile: bool = False,
    channels_last: bool = False,
    tf32: bool = False,
    limit: float | None = None,
    nets: Collection[str] | None = None,
) -> Measured:
    """Time evaluation of :data:`.rival_nets.RIVALS`; PeLK is deployed. Images are not in the cache when they are read.

    Args:
        arch: Name of a PeLK architecture.
        channels: Widths of its stages instead of its own, before the width factor.
        size, batch: The images are (batch, 3, size, size).
        dtype: float32; bfloat16 or float16 under autocast.
        device: 'cpu' or 'cuda'.
        repeats: Samples of each net.
        compile: Run every net through ``torch.compile``.
        channels_last: Images and weights of every net in channels-last layout.
        tf32: Let CUDA round float32 to TF32.
        limit: Seconds a call above which a net is skipped.
        nets: Names from :data:`.rival_nets.NETS`; the rivals by default.

    Raises:
        GateError: Deployment changes the output (in float32, before autocast and compilation).
        ValueError: An argument is out of its range.
    """
    names, device = check_nets(nets), check_device(device)
    check_run(repeats, limit)
    check_images(size, batch, dtype)
    resolved = resolve_arch(arch, channels)
    ready: list[Variant] = []
    skipped: dict[str, str] = {}
    with benchmark_settings(device, tf32), torch.inference_mode():
        image = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        images = Rotation(image, cache_bytes(device), channels_last=channels_last)
        for name in names:
            try:
                net, error = _deployed(name, resolved, image[:1], device)
                if channels_last:
                    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                if compile:
                    net.compile()
            except GateError:
                raise
            except Exception as problem:  # a missing package, too little memory
                skipped[name] = reason(problem)
                continue
            ready.append(Variant(name, partial(_run, net, images, device, dtype), error, weight_bytes(net)))
        result = measure(ready, device=device, repeats=repeats, limit=limit)
    result.skipped = skipped | result.skipped
    return result


def check_nets(nets: Collection[str] | None) -> tuple[str, ...]:
    """The names of the nets to time, the rivals for None.

    Raises:
        ValueError: A name is none of :data:`.rival_nets.NETS`, or there is none.
    """
    names = RIVALS if nets is None else tuple(nets)
    if not names or any(name not in NETS for name in names):
        raise ValueError(f'nets must be some of {", ".join(NETS)}, but got {", ".join(names) or "none"}')
    return names


def check_images(size: int, batch: int, dtype: torch.dtype) -> None:
    """What both benchmarks of nets ask of their images.

    Raises:
        ValueError: ``size`` below 32, ``batch`` below 1, or a ``dtype`` that autocast does not know.
    """
    if size < 32 or batch < 1:
        raise ValueError(f'size must be at least 32 and batch at least 1, but got {size} and {batch}')
    if dtype not in DTYPES:
        raise ValueError(f'dtype must be one of {", ".join(map(str, DTYPES))}, but got {dtype}')


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast to ``dtype``; without effect for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def _deployed(name: str, arch: object, image: torch.Tensor, device: torch.device) -> tuple[nn.Module, float | None]:
    """A net in evaluation mode, and for PeLK by how much its deployment changed the output."""
    if name not in PELKS:
        net = build_net(name, arch).to(device)
        net.eval()  # apart: mmpretrain's returns None
        return net, None
    net = build_net(name, arch, layer_scale_init_value=1.0).to(device)
    net.eval()
    randomise_norms(net)
    expected = net(image)[0]
    switch: Callable[[], None] = net.switch_to_deploy  # type: ignore[assignment]
    switch()
    return net, gate(f'deployed {name}', net(image)[0], expected, DEPLOY_BAR)


def _run(net: nn.Module, images: Rotation, device: torch.device, dtype: torch.dtype) -> None:
    with autocast(device, dtype):
        net(images.next())


def randomise_norms(net: nn.Module) -> None:
    """Statistics and affine parameters that a wrong merge cannot get right by luck."""
    generator = torch.Generator().manual_seed(0)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            channels = norm.num_features
            norm.running_mean.copy_(torch.randn(channels, generator=generator))  # type: ignore[union-attr]
            norm.running_var.copy_(torch.rand(channels, generator=generator) + 0.5)  # type: ignore[union-attr]
            norm.weight.data.copy_(torch.rand(channels, generator=generator) + 0.5)
            norm.bias.data.copy_(torch.randn(channels, generator=generator))
