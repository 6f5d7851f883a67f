"""The sharing grid of a peripheral convolution (PeLK, arXiv 2403.07589, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor

from ..utils.checks import check_int, check_odd
from .segments import expand, pool


@dataclass(frozen=True, init=False)
class SharingGrid:
    """Cuts each axis of a K x K kernel into k' segments whose positions share one parameter (Eq. 1).

    Args:
        sizes: Lengths of the k' segments along an axis, the same on both axes. Symmetric positive ints with an odd
            sum, which is the kernel size K.

    Raises:
        TypeError: A size is not an int.
        ValueError: ``sizes`` is empty, not positive, not symmetric, or has an even sum.

    Example:
        >>> SharingGrid.exponential(13).sizes
        (2, 2, 1, 1, 1, 1, 1, 2, 2)
    """

    sizes: tuple[int, ...]

    def __init__(self, sizes: Sequence[int]) -> None:
        if isinstance(sizes, str) or not isinstance(sizes, Sequence):
            raise TypeError(f'sizes must be a sequence of ints, but got {sizes!r}')
        for size in sizes:
            check_int('every entry of sizes', size)
        sizes = tuple(int(size) for size in sizes)
        if not sizes or min(sizes) < 1:
            raise ValueError(f'sizes must hold at least one segment, each at least 1 long, but got {sizes}')
        if sizes != sizes[::-1]:
            raise ValueError(f'sizes must be symmetric about the centre, but got {sizes}')
        if sum(sizes) % 2 == 0:
            raise ValueError(f'sizes must sum to an odd kernel size, but {sizes} sums to {sum(sizes)}')
        object.__setattr__(self, 'sizes', sizes)

    @classmethod
    def exponential(cls, kernel_size: int, central_size: int = 5, base: int = 2) -> SharingGrid:
        """The paper's grid: unit cells in the centre, segments of ``base ** i`` outwards (Eq. 2).

        What is left to reach ``kernel_size`` becomes the outermost segment, unless it is shorter than half of the
        segment before it, to which it is added then (decision D1 of ``docs/paper/decisions.md``).

        Args:
            kernel_size: K, odd and positive.
            central_size: Length of the unit-cell centre, odd, at most ``kernel_size``.
            base: Growth m of the segments, at least 1.

        Raises:
            TypeError: An argument is not an int.
            ValueError: An argument is out of the ranges above.
        """
        check_odd('kernel_size', kernel_size)
        check_odd('central_size', central_size)
        check_int('base', base)
        if central_size > kernel_size:
            raise ValueError(f'central_size must be at most kernel_size={kernel_size}, but got {central_size}')
        if base < 1:
            raise ValueError(f'base must be at least 1, but got {base}')
        half = [1] * (central_size // 2)
        left = kernel_size // 2 - len(half)
        size = base
        while left >= size:
            half.append(size)
            left -= size
            size *= base
        if left:
            before = half[-1] if half else 1
            if 2 * left >= before:
                half.append(left)
            else:
                half[-1] += left
        return cls((*half[::-1], 1, *half))

    @classmethod
    def dense(cls, kernel_size: int) -> SharingGrid:
        """The grid that shares nothing: ``kernel_size`` unit cells."""
        check_odd('kernel_size', kernel_size)
        return cls((1,) * kernel_size)

    @property
    def kernel_size(self) -> int:
        """K, the sum of the sizes."""
        return sum(self.sizes)

    @property
    def num_segments(self) -> int:
        """k', the number of segments an axis."""
        return len(self.sizes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Offset of each segment's first tap from the kernel's centre, in pixels: ``offsets[0] == -(K // 2)``."""
        return tuple(accumulate(self.sizes[:-1], initial=-(self.kernel_size // 2)))

    def refine_centre(self, central_size: int) -> SharingGrid:
        """The coarsest grid finer than this one whose central ``central_size`` positions are unit cells."""
        check_odd('central_size', central_size)
        if central_size > self.kernel_size:
            raise ValueError(f'central_size must be at most kernel_size={self.kernel_size}, but got {central_size}')
        radius = central_size // 2
        cuts = {*self.offsets, *range(-radius, radius + 2), self.kernel_size // 2 + 1}
        ordered = sorted(cuts)
        return SharingGrid([b - a for a, b in zip(ordered, ordered[1:], strict=False)])

    def expand(self, weight: Tensor) -> Tensor:
        """Shared weights (C, k', k') to the dense depthwise kernel (C, 1, K, K)."""
        self.check_weight(weight)
        return expand(weight.unsqueeze(1), self.sizes, self.sizes)

    def pool(self, kernel: Tensor) -> Tensor:
        """Region sums of a kernel (C, 1, K, K) to (C, k', k'): the adjoint of :meth:`expand`."""
        size = self.kernel_size
        if kernel.ndim != 4 or kernel.shape[1:] != (1, size, size):
            raise ValueError(f'kernel must have shape (C, 1, {size}, {size}), but got {tuple(kernel.shape)}')
        return pool(kernel.squeeze(1), self.sizes, self.sizes)

    def sample(self, kernel: Tensor) -> Tensor:
        """Value at each region's first tap: (C, 1, K, K), constant on the regions, to (C, k', k'). Inverts expand."""
        firsts = [offset + self.kernel_size // 2 for offset in self.offsets]
        return kernel[:, 0, firsts][:, :, firsts]

    def check_weight(self, weight: Tensor) -> None:
        """Raise ValueError unless ``weight`` has shape (C, k', k')."""
        k = self.num_segments
        if weight.ndim != 3 or weight.shape[1:] != (k, k):
            raise ValueError(
                f"weight must have shape (C, k', k') = (C, {k}, {k}) for the grid {self.sizes}, "
                f'but got {tuple(weight.shape)}'
            )
