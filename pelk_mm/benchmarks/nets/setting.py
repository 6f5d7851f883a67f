"""What the benchmarks of whole nets have in common: their arguments, checked, and the images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..harness import Measured, Variant, check_run, measure_built
from ..machine import cache_bytes, check_device
from ..rotation import Rotation
from .rivals import NETS, RIVALS, resolve_arch

#: What ``dtype`` may be: float32, or autocast to one of the others.
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(kw_only=True)
class Setting:
    """How nets are timed beside each other.

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
        nets: Names from :data:`.rivals.NETS`; the rivals by default.

    Attributes:
        names: The nets to time.
        place: The device.
        shape: What PeLK takes as ``arch``.

    Raises:
        ValueError: An argument is out of its range.
    """

    repeats: int
    arch: str = 'tiny'
    channels: Sequence[int] | None = None
    size: int = 224
    batch: int = 4
    dtype: torch.dtype = torch.float32
    device: torch.device | str = 'cpu'
    compile: bool = False
    channels_last: bool = False
    tf32: bool = False
    limit: float | None = None
    nets: Collection[str] | None = None
    names: tuple[str, ...] = field(init=False)
    place: torch.device = field(init=False)
    shape: Any = field(init=False)

    def __post_init__(self) -> None:
        self.names = RIVALS if self.nets is None else tuple(self.nets)
        if not self.names or any(name not in NETS for name in self.names):
            raise ValueError(f'nets must be some of {", ".join(NETS)}, but got {", ".join(self.names) or "none"}')
        self.place = check_device(self.device)
        check_run(self.repeats, self.limit)
        check_images(self.size, self.batch, self.dtype)
        self.shape = resolve_arch(self.arch, self.channels)

    def images(self, generator: torch.Generator) -> Rotation:
        """Random images that are not in the cache when they are read."""
        image = torch.randn(self.batch, 3, self.size, self.size, generator=generator).to(self.place)
        return Rotation(image, cache_bytes(self.place), channels_last=self.channels_last)

    def measure(self, build: Callable[[str], Variant]) -> Measured:
        """Time what ``build`` makes of each name; see :func:`~pelk_mm.benchmarks.harness.measure_built`."""
        return measure_built(
            self.names, lambda name: [build(name)], device=self.place, repeats=self.repeats, limit=self.limit
        )


def check_images(size: int, batch: int, dtype: torch.dtype) -> None:
    """What every benchmark of nets asks of its images.

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
