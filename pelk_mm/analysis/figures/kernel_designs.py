"""What large kernels share: a dense, a striped and a peripheral one side by side, each parameter in its own colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from ...ops import SharingGrid
from ...utils.checks import check_odd
from .charts import new_figure

#: Pixels a position at least: one of them is the line between two cells.
CELL = 6
#: Side of a kernel in the PNG, in pixels, larger where ``CELL`` needs it. Letters and margins are in proportion to it.
SIDE = 306


@dataclass(frozen=True)
class KernelDesign:
    """Which parameter each position of a K x K kernel reads.

    Args:
        name: What the design is called.
        net: The network that is made of it.
        sizes: Of its kernels, (height, width) each.
        owners: (K, K) int for each of its kernels: the number of the parameter, -1 where the kernel has none. The
            kernels' outputs are added, and no two kernels read one parameter.
        segments: Lengths of the segments along an axis; empty where nothing is shared.
    """

    name: str
    net: str
    sizes: tuple[tuple[int, int], ...]
    owners: tuple[np.ndarray, ...]
    segments: tuple[int, ...] = ()

    @property
    def parameters(self) -> int:
        """Parameters a channel: the different ones that are read."""
        return int(np.count_nonzero(np.unique(self.owners) >= 0))

    def row(self) -> dict[str, str | int]:
        """The numbers as a row of a table: ``design``, ``net``, ``kernels``, ``segments`` and ``parameters``."""
        kernels = ' and '.join(f'{height}x{width}' for height, width in self.sizes)
        segments = ' '.join(map(str, self.segments))
        facts = {'design': self.name, 'net': self.net, 'kernels': kernels, 'segments': segments}
        return {**facts, 'parameters': self.parameters}


def kernel_designs(kernel_size: int = 51, central_size: int = 5, stripe_width: int = 5) -> tuple[KernelDesign, ...]:
    """The designs of RepLKNet (dense), SLaK (stripes) and PeLK (peripheral), at one size.

    Args:
        kernel_size: K, odd.
        central_size: Unit-cell centre of the peripheral kernel's grid, odd, at most K.
        stripe_width: Short side of a stripe, odd, at most K.

    Raises:
        TypeError, ValueError: A size is out of its range.
    """
    grid = SharingGrid.exponential(kernel_size, central_size)
    check_odd('stripe_width', stripe_width)
    if stripe_width > kernel_size:
        raise ValueError(f'stripe_width must be at most kernel_size={kernel_size}, but got {stripe_width}')
    positions = np.arange(kernel_size**2).reshape(kernel_size, kernel_size)
    inside = np.abs(np.arange(kernel_size) - kernel_size // 2) <= stripe_width // 2
    tall = np.where(inside[None, :], positions, -1)
    wide = np.where(inside[:, None], positions + kernel_size**2, -1)
    shared = torch.arange(grid.num_segments**2).reshape(1, grid.num_segments, grid.num_segments)
    return (
        KernelDesign('dense', 'RepLKNet', ((kernel_size, kernel_size),), (positions,)),
        KernelDesign('two stripes', 'SLaK', ((kernel_size, stripe_width), (stripe_width, kernel_size)), (tall, wide)),
        KernelDesign(
            'peripheral', 'PeLK', ((kernel_size, kernel_size),), (grid.expand(shared)[0, 0].numpy(),), grid.sizes
        ),
    )


def draw_kernel_designs(designs: Sequence[KernelDesign]) -> Figure:
    """A column a design: cells of one colour that read one parameter; beneath them name, sizes, net and count.

    Above a kernel that shares stand the lengths of its segments, from 2 on, where there is room.

    Args:
        designs: As :func:`kernel_designs` returns them, all of one kernel size.
    """
    size = len(designs[0].owners[0])
    cell = max(CELL, round(SIDE / size))
    side = cell * size
    gap, top, bottom = (round(share * side) for share in (0.1, 0.13, 0.47))
    width, height = len(designs) * (side + gap) + gap, top + side + bottom
    figure = new_figure(width, height)
    figure.set_layout_engine('none')  # the axes are placed here: a whole number of pixels a position

    def write(x: float, below: float, text: str, letter: float, **style: Any) -> None:
        """Write text ``x`` pixels from the left, ``below`` the kernels' lower edge; in shares of a side, as letters."""
        y = (bottom - below * side) / height
        figure.text(x / width, y, text, fontsize=letter * side * 72 / figure.dpi, **{'ha': 'center', **style})

    write(gap, -1.03, 'one cell: one parameter', 0.06, ha='left', color='dimgrey')
    for i, design in enumerate(designs):
        left = gap + i * (side + gap)
        middle = left + side / 2
        axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        axes.imshow(_cells(design, cell), interpolation='nearest')
        axes.set_axis_off()
        sizes = ' and '.join(f'{height}×{width}' for height, width in design.sizes)
        write(middle, 0.1, design.name, 0.072, weight='bold')
        write(middle, 0.19, f"{sizes}, {design.net}'s design", 0.06, color='dimgrey')
        write(middle, 0.335, f'{design.parameters}', 0.11, weight='bold')
        write(middle, 0.42, 'parameters a channel', 0.06, color='dimgrey')
        for start, length in zip(accumulate(design.segments, initial=0), design.segments, strict=False):
            if length > 1 and length * cell >= 0.037 * side * len(str(length)):
                write(left + (start + length / 2) * cell, -1.03, f'{length}', 0.054, color='dimgrey')
    return figure


def _cells(design: KernelDesign, cell: int) -> np.ndarray:
    """The picture of a design, (K * cell, K * cell, 3): coloured positions, and a line where the parameter changes."""
    owners = np.stack(design.owners)
    distance = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, owners.shape[1])] * 2))
    # Brighter in the centre, and a random part that tells neighbours apart.
    brightness = np.stack([_mean_over(owner, 0.9 - 0.55 * distance) for owner in owners])
    present = owners >= 0
    mean = (brightness * present).sum(0) / np.maximum(present.sum(0), 1)
    colours = np.where(present.any(0), np.moveaxis(colormaps['viridis'](mean)[..., :3], -1, 0), 0.93)
    owners, picture = (array.repeat(cell, -2).repeat(cell, -1) for array in (owners, colours))
    line = np.zeros(picture.shape[1:], bool)
    line[1:] |= (owners[:, 1:] != owners[:, :-1]).any(0)
    line[:, 1:] |= (owners[:, :, 1:] != owners[:, :, :-1]).any(0)
    return np.moveaxis(np.where(line, 0.45 * picture + 0.55, picture), 0, -1)


def _mean_over(owner: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each position the mean of ``values`` over those of the same owner, changed at random by up to 0.08."""
    _, inverse, counts = np.unique(owner, return_inverse=True, return_counts=True)
    means = np.bincount(inverse.ravel(), values.ravel()) / counts
    return (means + np.random.default_rng(0).uniform(-0.08, 0.08, len(means)))[inverse].reshape(owner.shape)
