"""Evaluation of deployed PeLK beside its rivals of the same widths and depths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from ..harness import Measured, Variant, gate
from ..machine import benchmark_settings
from ..rotation import Rotation
from .rivals import PELKS, PLAIN_FORMS, PUBLISHED, build_net, weight_bytes
from .setting import Setting, autocast

#: Largest change of the output, over the largest output, with which a deployed net is timed.
DEPLOY_BAR = 1e-5


def benchmark_model(*, repeats: int = 7, **setting: Any) -> Measured:
    """Time evaluation of :data:`.rivals.RIVALS`, those of this package deployed. Images are not in the cache when read.

    Args:
        repeats: Samples of each net.
        **setting: The other arguments of :class:`.setting.Setting`.

    Raises:
        GateError: Deployment changes the output (in float32, before autocast and compilation).
        ValueError: An argument is out of its range.
    """
    common = Setting(repeats=repeats, **setting)
    with benchmark_settings(common.place, common.tf32), torch.inference_mode():
        images = common.images(torch.Generator().manual_seed(0))

        def build(name: str) -> Variant:
            net, error = _deployed(name, common.shape, images.next()[:1].contiguous(), common.place)
            if common.channels_last:
                net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if common.compile:
                net.compile()
            return Variant(name, partial(_run, net, images, common.place, common.dtype), error, weight_bytes(net))

        return common.measure(build)


def _deployed(name: str, arch: object, image: torch.Tensor, device: torch.device) -> tuple[nn.Module, float | None]:
    """A net in evaluation mode, and for one of this package by how much its deployment changed the output."""
    if name not in (*PELKS, *PUBLISHED, *PLAIN_FORMS):
        net = build_net(name, arch).to(device)
        net.eval()  # apart: mmpretrain's returns None
        return net, None
    net = build_net(name, arch).to(device)
    net.eval()
    show_merges(net)
    expected = net(image)[0]
    switch: Callable[[], None] = net.switch_to_deploy  # type: ignore[assignment]
    switch()
    return net, gate(f'deployed {name}', net(image)[0], expected, DEPLOY_BAR)


def _run(net: nn.Module, images: Rotation, device: torch.device, dtype: torch.dtype) -> None:
    with autocast(device, dtype):
        net(images.next())


def show_merges(net: nn.Module) -> None:
    """Layer scales of 1, and statistics and affine parameters of BatchNorms that no wrong merge gets right by luck."""
    for name, parameter in net.named_parameters():
        if name.endswith('gamma') and not name.endswith('grn.gamma'):
            nn.init.ones_(parameter)
    generator = torch.Generator().manual_seed(0)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            channels = norm.num_features
            norm.running_mean.copy_(torch.randn(channels, generator=generator))  # type: ignore[union-attr]
            norm.running_var.copy_(torch.rand(channels, generator=generator) + 0.5)  # type: ignore[union-attr]
            norm.weight.data.copy_(torch.rand(channels, generator=generator) + 0.5)
            norm.bias.data.copy_(torch.randn(channels, generator=generator))
