"""Segments: runs of taps along one axis of a kernel that share a parameter.

Every kernel here has the form (C, 1, r, c): one parameter for each pair of a row segment and a column segment. A
peripheral kernel has its grid's segments on both axes, a dense or stripe kernel segments of one tap.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

#: Lengths of an axis's segments, symmetric about the kernel's centre.
Segments = tuple[int, ...]


class Reachable(NamedTuple):
    """The part of an axis that reaches from one pixel of a map to another."""

    first: int
    """Index of its first segment on the whole axis."""
    sizes: Segments
    """Lengths of its segments, the outermost ones cut to what reaches; symmetric again."""

    @property
    def kept(self) -> slice:
        """Which of the axis's segments these are."""
        return slice(self.first, self.first + len(self.sizes))

    @property
    def radius(self) -> int:
        """How far the taps go to either side."""
        return sum(self.sizes) // 2

    @property
    def starts(self) -> tuple[int, ...]:
        """Offset of each segment's first tap from the kernel's centre, in pixels."""
        return tuple(accumulate(self.sizes[:-1], initial=-self.radius))


def reachable(sizes: Segments, length: int) -> Reachable:
    """What of the segments ``sizes`` lies within ``length`` - 1 pixels of the centre: the rest meets only padding."""
    if sum(sizes) // 2 < length:
        return Reachable(0, sizes)
    kept = []
    tap = -(sum(sizes) // 2)
    for index, size in enumerate(sizes):
        start, stop = max(tap, 1 - length), min(tap + size, length)
        if start < stop:
            kept.append((index, stop - start))
        tap += size
    return Reachable(kept[0][0], tuple(size for _, size in kept))


def expand(weight: Tensor, rows: Segments, columns: Segments) -> Tensor:
    """(C, 1, r, c) to the dense kernel (C, 1, kh, kw), each parameter repeated over its segments."""
    # cat of expanded views: differentiable, exportable, no index tensors to move between devices
    for dim, sizes in ((2, rows), (3, columns)):
        if max(sizes) > 1:
            parts = zip(weight.split(1, dim=dim), sizes, strict=True)
            weight = torch.cat(
                [part.expand(*(size if d == dim else -1 for d in range(4))) for part, size in parts], dim
            )
    return weight


def pool(kernel: Tensor, rows: Segments, columns: Segments) -> Tensor:
    """Sums over the segments, (..., kh, kw) to (..., r, c): the adjoint of :func:`expand`."""
    for dim, sizes in ((-2, rows), (-1, columns)):
        if max(sizes) > 1:
            kernel = torch.stack([part.sum(dim) for part in kernel.split(sizes, dim=dim)], dim=dim)
    return kernel
