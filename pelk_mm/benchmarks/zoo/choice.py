"""One table for who has to choose a net of ConvNeXt-T's size: the work of ``zoo.py --choice``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ...checkpoints.deploy import switch_to_deploy
from ...utils.markdown import markdown
from ..harness import Measured, Variant, measure_built
from ..machine import benchmark_settings, cache_bytes, check_device
from ..nets.setting import check_images
from ..nets.train_step import NUM_CLASSES, TrainStep
from ..rotation import Rotation
from ..tables import three_digits
from .forms import deployed
from .measure import build_backbone, choose
from .table import ENTRIES, Counts


@dataclass(frozen=True)
class Choice:
    """A net of the table, published figures being its authors'.

    Attributes:
        name: In :data:`~pelk_mm.benchmarks.zoo.table.ENTRIES`, which has its top-1.
        miou: UperNet on ADE20K, 160k iterations, single scale; None where none is published or at hand.
        average_precision: On COCO, of boxes and masks, 3x schedule.
        detector: Theirs, for :attr:`average_precision`.
        elsewhere: What its authors' own code needs beside torch.
        licence: Of the code, and of the weights where it is another one.
    """

    name: str
    miou: float | None
    average_precision: str | None
    detector: str
    elsewhere: str
    licence: str


_CASCADE = 'Cascade Mask R-CNN'
CHOICES = (
    Choice('PeLK-T', 48.1, '51.4 / 44.6', _CASCADE, 'no code published', 'Apache-2.0; no weights'),
    Choice('ConvNeXt-T', 46.0, '50.4 / 43.7', _CASCADE, 'mmpretrain', 'MIT'),
    Choice('SLaK-T', 47.6, '51.3 / 44.3', _CASCADE, 'a CUDA operator, mmcv 1.x', 'MIT'),
    Choice('UniRepLKNet-T', 48.6, '51.7 / 44.9', _CASCADE, 'mmcv 1.x', 'Apache-2.0'),
    Choice('InceptionNeXt-T', None, None, '-', 'timm', 'Apache-2.0'),
    Choice('SW-T', 49.22, '52.21 / 45.19', _CASCADE, 'a CUDA operator, mmcv 1.x', 'MIT; weights not stated'),
    Choice('WTConvNeXt-T', None, None, '-', 'PyWavelets, timm', 'MIT'),
    Choice('WBMM-T', 48.3, '51.6 / 44.8', _CASCADE, 'mmcv 1.x', 'Apache-2.0; weights not stated'),
    Choice('OverLoCK-T', 50.3, '49.6 / 43.9', 'Mask R-CNN', 'NATTEN 0.17, mmcv 1.x', 'Apache-2.0; weights not stated'),
    Choice('UniConvNet-T', None, None, '-', 'a CUDA operator', 'MIT; weights not stated'),
)


def step(name: str) -> str:
    """What the timing of a net's training step is called."""
    return f'{name}, training'


def time_choices(
    folder: Path,
    names: Sequence[str],
    *,
    size: int,
    batch: int,
    train_batch: int,
    device: torch.device | str,
    repeats: int,
) -> Measured:
    """Time deployed nets in evaluation mode and a training step of a classifier on each, all in turn, in float32.

    Args:
        folder: Where the configs lie.
        names: Of :data:`CHOICES`.
        size: Pixels a side.
        batch, train_batch: Images of an evaluation and of a step.
        device: 'cpu' or 'cuda'.
        repeats: Samples of each.

    Returns:
        The timings, under :func:`~pelk_mm.benchmarks.zoo.forms.deployed` and :func:`step`; steps with what they keep
        for the backward pass; and reasons for what was not timed.

    Raises:
        ConfigError: A config cannot be built.
        ValueError: An argument is out of its range.
    """
    place = check_device(device)
    for images in (batch, train_batch):
        check_images(size, images, torch.float32)
    generator = torch.Generator().manual_seed(0)
    with benchmark_settings(place), torch.enable_grad():

        def rotation(images: int) -> Rotation:
            image = torch.randn(images, 3, size, size, generator=generator).to(place)
            return Rotation(image, cache_bytes(place))

        seen, trained = rotation(batch), rotation(train_batch)
        labels = torch.randint(NUM_CLASSES, (train_batch,), generator=generator).to(place)

        def build(name: str) -> list[Variant]:
            net = build_backbone(folder, choose([name])[0]).to(place)
            merged = copy.deepcopy(net)
            switch_to_deploy(merged)
            merged.eval()
            training = TrainStep(net, trained, labels, torch.float32)
            kept = training.kept_bytes()
            training()  # makes the optimizer's states
            return [
                Variant(deployed(name), partial(_evaluate, merged, seen)),
                Variant(step(name), training, held_bytes=training.held_bytes(), kept_bytes=kept),
            ]

        return measure_built(names, build, device=place, repeats=repeats)


def render_choice(
    counts: Mapping[str, Counts], timed: Measured, batch: int, train_batch: int, baseline: str = 'ConvNeXt-T'
) -> str:
    """Markdown: a line for each counted net of :data:`CHOICES`, times over those of ``baseline`` too."""
    top1 = {entry.name: entry.top1 for entry in ENTRIES}
    header = (
        'net',
        "top-1, the authors'",
        "mIoU, the authors'",
        "box / mask AP, the authors'",
        'parameters, M',
        'MACs, G',
        'evaluation, images/s',
        'training, images/s',
        'kept, MiB an image',
        'its own code needs',
        'licence',
    )
    rows = []
    for choice in CHOICES:
        if choice.name not in counts:
            continue
        counted = counts[choice.name]
        kept = next((t.kept_bytes for t in timed.timings if t.name == step(choice.name)), None)
        rows.append(
            (
                choice.name,
                f'{top1[choice.name]}',
                '-' if choice.miou is None else f'{choice.miou}',
                '-' if choice.average_precision is None else f'{choice.average_precision} ({choice.detector})',
                f'{counted.params / 1e6:.1f}',
                f'{counted.macs / 1e9:.2f}',
                _speed(timed, deployed, choice.name, batch, baseline),
                _speed(timed, step, choice.name, train_batch, baseline),
                '-' if kept is None else three_digits(kept / train_batch / 2**20),
                choice.elsewhere,
                choice.licence,
            )
        )
    lines = [markdown(header, rows), '']
    lines += [f'- {name} is not timed: {reason}' for name, reason in timed.skipped.items()]
    return '\n'.join(lines).rstrip()


def _speed(timed: Measured, form: Callable[[str], str], name: str, batch: int, baseline: str) -> str:
    """Images a second, and in brackets its time over the baseline's."""
    seconds, base = timed.median(form(name)), timed.median(form(baseline))
    if seconds is None:
        return '-'
    return three_digits(batch / seconds) + ('' if base is None else f' ({seconds / base:.2f} times the time)')


def _evaluate(net: nn.Module, images: Rotation) -> None:
    with torch.no_grad():
        net(images.next())
