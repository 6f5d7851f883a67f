"""Evaluation of networks as trained and deployed, and of shiftwise mixers group by group."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ...layers.mixers.shiftwise import ShiftwiseConv
from ..harness import Measured, Variant, check_run, gate, measure_built
from ..machine import benchmark_settings, cache_bytes, check_device
from ..nets.evaluation import DEPLOY_BAR, show_merges
from ..nets.setting import check_images
from ..rotation import Rotation


def deployed(name: str) -> str:
    """What the timing of a network's deployed form is called."""
    return f'{name}, deployed'


def by_groups(name: str) -> str:
    """What the timing of a network whose shiftwise mixers add every shifted group by itself is called."""
    return f'{name}, group by group'


def benchmark_forms(
    nets: Mapping[str, Callable[[], nn.Module]],
    *,
    size: int = 224,
    batch: int = 4,
    device: torch.device | str = 'cpu',
    repeats: int = 5,
    loops: Collection[str] = (),
    rivals: Collection[str] = (),
) -> Measured:
    """Time backbones in evaluation mode and float32, all forms of all of them in turn, one sample each.

    A network has up to three forms: as trained; :func:`deployed`, if it has ``switch_to_deploy()``; and
    :func:`by_groups`, if it is one of ``loops``, with the definition of the shiftwise operator, a sum of slices, for
    its fast form. BatchNorms get random statistics, and a form that changes the output by more than
    :data:`~pelk_mm.benchmarks.nets.evaluation.DEPLOY_BAR` is not timed.

    Args:
        nets: By name, what builds the backbone.
        size, batch: The images are (batch, 3, size, size); they are not in the cache when they are read.
        device: 'cpu' or 'cuda'.
        repeats: Samples of each form.
        loops: Names of networks of :class:`~pelk_mm.layers.mixers.shiftwise.ShiftwiseConv`.
        rivals: Names of networks that are not this package's: where a form of theirs is wrong it is skipped.

    Returns:
        The timings, and a reason for each network or form that has none.

    Raises:
        GateError: A form changes the output of one of our networks.
        ValueError: An argument is out of its range.
    """
    device = check_device(device)
    check_run(repeats, None)
    check_images(size, batch, torch.float32)
    with benchmark_settings(device), torch.inference_mode():
        image = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        images = Rotation(image, cache_bytes(device))

        def build(name: str) -> list[Variant]:
            forms = _forms(name, nets[name], image[:1], device, name in loops)
            return [Variant(form, partial(_run, net, images), error) for form, (net, error) in forms.items()]

        return measure_built(nets, build, device=device, repeats=repeats, rivals=rivals)


def _forms(
    name: str, build: Callable[[], nn.Module], image: Tensor, device: torch.device, loop: bool
) -> dict[str, tuple[nn.Module, float | None]]:
    """Every form of a network in evaluation mode, and by how much it changes the output."""
    net = build().to(device)
    net.eval()  # apart: mmpretrain's returns None
    show_merges(net)
    expected = net(image)[-1]
    forms: dict[str, tuple[nn.Module, float | None]] = {name: (net, None)}
    if hasattr(net, 'switch_to_deploy'):
        merged = copy.deepcopy(net)
        cast(Callable[[], None], merged.switch_to_deploy)()
        merged.eval()  # mmpretrain's merge makes new modules
        forms[deployed(name)] = merged, gate(deployed(name), merged(image)[-1], expected, DEPLOY_BAR)
    if loop:
        slow = copy.deepcopy(net)
        for module in slow.modules():
            if isinstance(module, ShiftwiseConv):
                module.backend = 'groups'
        forms[by_groups(name)] = slow, gate(by_groups(name), slow(image)[-1], expected, DEPLOY_BAR)
    return forms


def _run(net: nn.Module, images: Rotation) -> None:
    net(images.next())
