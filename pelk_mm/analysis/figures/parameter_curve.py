"""Parameters against kernel size for dense, stripe and peripheral kernels (PeLK, arXiv 2403.07589, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from ...layers.mixers.partial import count_conv_channels
from ...models import PeLK
from ...ops import SharingGrid
from ...utils.checks import check_odd
from .charts import new_figure

#: The mixers of the comparison, by their names in ``pelk_mm.layers.MIXERS``, and what the legend calls them.
LABELS = {'dense': 'dense, K x K', 'stripe': 'stripe, K x n + n x K', 'peripheral': "peripheral, k' x k'"}
COLOURS = {'dense': 'tab:red', 'stripe': 'tab:orange', 'peripheral': 'tab:blue'}
Row = dict[str, int]


def kernel_parameters(mixer: str, kernel_size: int, central_size: int = 5, stripe_width: int = 5) -> int:
    """Weights a channel of one deployed large kernel: K^2, 2 n K, or k'^2 with k' segments (Eq. 2).

    Args:
        mixer: 'dense', 'stripe' or 'peripheral'.
        kernel_size: K, odd.
        central_size: Unit-cell centre of the sharing grid ('peripheral' alone).
        stripe_width: n ('stripe' alone).

    Raises:
        TypeError, ValueError: An unknown mixer, or a size out of its range.
    """
    check_odd('kernel_size', kernel_size)
    check_odd('stripe_width', stripe_width)
    if mixer == 'dense':
        return kernel_size**2
    if mixer == 'stripe':
        if stripe_width > kernel_size:
            raise ValueError(f'stripe_width must be at most kernel_size={kernel_size}, but got {stripe_width}')
        return 2 * stripe_width * kernel_size
    if mixer == 'peripheral':
        return SharingGrid.exponential(kernel_size, central_size).num_segments ** 2
    raise ValueError(f'mixer must be one of {", ".join(LABELS)}, but got {mixer!r}')


def parameter_curve(
    kernel_sizes: Iterable[int],
    arch: str = 'tiny',
    *,
    central_size: int = 5,
    stripe_width: int = 5,
    conv_ratio: float = 1.0,
) -> list[Row]:
    """Parameters of a ConvNeXt whose depthwise kernels all have size K, by formula.

    Counted as deployed, where the parallel small kernel has been merged and takes none. The channels are ConvNeXt's own
    (width factor 1).

    Args:
        kernel_sizes: The sizes K, odd, at least ``central_size`` and ``stripe_width``.
        arch: Name of a PeLK (ConvNeXt) architecture.
        central_size, stripe_width: As for :func:`kernel_parameters`.
        conv_ratio: Share of the channels that are convolved.

    Returns:
        For each K a row: ``kernel_size``; for each mixer its kernels' weights in all blocks (``dense``, ``stripe``,
        ``peripheral``) and with the rest of the backbone, without classifier (``dense_backbone``, ...); and
        ``pos_embed``, the size of the embedding h, one a stage, which PeLK would add.

    Raises:
        TypeError, ValueError: An argument is out of its range, or there is no kernel size.
    """
    sizes = list(kernel_sizes)
    if not sizes:
        raise ValueError('kernel_sizes must hold at least one size, but is empty')
    if arch not in PeLK.arch_settings:
        raise ValueError(f'arch must be one of {", ".join(PeLK.arch_settings)}, but got {arch!r}')
    settings = PeLK.arch_settings[arch]
    convolved = [count_conv_channels(channels, conv_ratio) for channels in settings['channels']]
    kernels = sum(depth * g for depth, g in zip(settings['depths'], convolved, strict=True))
    smallest = max(central_size, stripe_width)
    rest = built_parameters('dense', smallest, arch, conv_ratio=conv_ratio) - kernels * smallest**2
    rows = []
    for size in sizes:
        weights = {mixer: kernels * kernel_parameters(mixer, size, central_size, stripe_width) for mixer in LABELS}
        totals = {f'{mixer}_backbone': rest + count for mixer, count in weights.items()}
        rows.append({'kernel_size': size, **weights, **totals, 'pos_embed': sum(convolved) * size**2})
    return rows


def built_parameters(
    mixer: str,
    kernel_size: int,
    arch: str = 'tiny',
    *,
    central_size: int = 5,
    stripe_width: int = 5,
    conv_ratio: float = 1.0,
) -> int:
    """Parameters of such a backbone as it is really built and deployed, without h: the check on the formula.

    Built on the ``meta`` device, so that no kernel takes memory. Arguments and errors as for :func:`parameter_curve`.
    """
    if mixer not in LABELS:
        raise ValueError(f'mixer must be one of {", ".join(LABELS)}, but got {mixer!r}')
    options: dict[str, Any] = {'central_size': central_size} if mixer == 'peripheral' else {}
    # The parallel kernel merges into unit cells alone where it is no wider than the centre: the grid stays as it is.
    options['small_kernel'] = {'stripe': stripe_width, 'peripheral': central_size}.get(mixer)
    with torch.device('meta'):
        net = PeLK(
            arch,
            kernel_sizes=(kernel_size,) * 4,
            mixer=mixer,
            conv_ratio=conv_ratio,
            pos_embed=None,
            width_factor=1.0,
            **options,
        )
    net.switch_to_deploy()
    return sum(parameter.numel() for parameter in net.parameters())


def draw_parameter_curve(
    rows: Sequence[Row], built: Sequence[tuple[str, int, int]] = (), title: str = '', width: int = 1000
) -> Figure:
    """Two panels over the kernel size: weights of the large kernels, and the whole backbone.

    Args:
        rows: As :func:`parameter_curve` returns them.
        built: (mixer, K, parameters of the backbone as built), drawn as dots.
        title: Above both panels.
        width: Of the PNG in pixels; the height is 0.42 times that.
    """
    figure = new_figure(width, round(0.42 * width))
    left, right = figure.subplots(1, 2)
    sizes = [row['kernel_size'] for row in rows]
    for mixer, label in LABELS.items():
        for axes, key in ((left, mixer), (right, f'{mixer}_backbone')):
            axes.plot(sizes, [row[key] / 1e6 for row in rows], color=COLOURS[mixer], label=label)
        dots = [(size, count / 1e6) for name, size, count in built if name == mixer]
        if dots:
            right.plot(*zip(*dots, strict=True), 'o', color=COLOURS[mixer], markersize=4, label='_built')
    if built:
        right.plot([], [], 'o', color='grey', markersize=4, label='counted on the built net')
    left.plot(sizes, [row['pos_embed'] / 1e6 for row in rows], ':', color='grey', label='embedding h, one a stage')
    for axes, what in ((left, 'large kernels'), (right, 'backbone, without h')):
        axes.set_yscale('log')
        axes.set_xlabel('kernel size K (pixels)')
        axes.set_ylabel(f'parameters of the {what} (millions)')
        axes.grid(alpha=0.3)
        axes.yaxis.set_major_formatter('{x:g}')
        axes.yaxis.set_minor_formatter('{x:g}' if axes is right else '')
        axes.legend()
    figure.suptitle(title)
    return figure
