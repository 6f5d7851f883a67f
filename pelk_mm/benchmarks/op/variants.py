"""Every way to compute a case: back-ends, stock convolutions, public rivals, and the copy that none can beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...ops import available_backends, peripheral_conv2d
from ..rotation import Rotation
from .case import Case
from .public_rivals import WAVELETS, implicit_gemm, trained_parameters, wavelet_convolution

STOCK = ('stock', 'stock nhwc')
SEVEN = ('stock 7x7', 'stock 7x7 nhwc')
FLOOR = 'copy'


def op_variants() -> tuple[str, ...]:
    """Names of all variants, in the order in which they run."""
    return (*STOCK, 'auto', *available_backends(), *SEVEN, 'megengine', *WAVELETS, FLOOR)


@dataclass(frozen=True)
class Candidate:
    """One way to compute it: ``run`` maps an image of ``images`` to the output, ``leaves`` take gradients beside it.

    ``bar`` is what it may err by, None for another function. A candidate that is ``ours`` and errs stops the benchmark.
    """

    run: Callable[[Tensor], Tensor]
    leaves: tuple[Tensor, ...]
    images: Rotation
    cotangents: Rotation
    bar: float | None
    ours: bool = False

    def __call__(self, image: Tensor, cotangent: Tensor | None) -> tuple[Tensor, ...]:
        """The output, and where a cotangent is given the gradients of the image and of ``leaves``."""
        out = self.run(image)
        return (out,) if cotangent is None else (out, *torch.autograd.grad(out, (image, *self.leaves), cotangent))

    def next(self, backward: bool) -> tuple[Tensor, ...]:
        """One call on what has not been used for longest."""
        return self(self.images.next(), self.cotangents.next() if backward else None)


def build_candidate(name: str, case: Case) -> Candidate:
    """The variant ``name`` of :func:`op_variants`, the copy apart.

    Raises:
        Exception: Whatever keeps a rival from being imported or built.
    """
    plain = case.images, case.cotangents
    if name in (*STOCK, *SEVEN):
        pools = (case.nhwc, case.nhwc_cotangents) if name.endswith('nhwc') else plain
        kernel, bar = (case.kernel, 10 * case.bar) if name in STOCK else (case.small, None)
        return Candidate(lambda x: _stock(x, kernel), (kernel,), *pools, bar)
    if name == 'megengine':
        if not case.kernel.is_cuda:
            raise RuntimeError('it runs on CUDA alone')
        gemm = implicit_gemm(case.kernel)
        return Candidate(gemm, (gemm.weight,) if case.backward else (), *plain, 10 * case.bar)  # type: ignore[arg-type]
    if name in WAVELETS:
        wavelet = wavelet_convolution(name, case.images.next().detach(), case.grid.kernel_size)
        return Candidate(wavelet, trained_parameters(wavelet), *plain, None)
    backend = None if name == 'auto' else name
    # 'dense' is a stock convolution in the end, and 'auto' may choose it: they err as stock ones do.
    bar = 10 * case.bar if name in ('auto', 'dense') else case.bar
    return Candidate(
        lambda x: peripheral_conv2d(x, case.weight, case.grid, backend=backend), (case.weight,), *plain, bar, ours=True
    )


def build_copy(case: Case) -> Callable[[], object]:
    """A call that copies an image, with ``backward`` a cotangent too, to a place of its own."""
    pools = [case.images, case.cotangents] if case.backward else [case.images]
    places = [torch.empty_like(pool.next().detach()) for pool in pools]

    @torch.no_grad()
    def copy() -> None:
        for place, pool in zip(places, pools, strict=True):
            place.copy_(pool.next())

    return copy


def _stock(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel, padding=kernel.shape[-1] // 2, groups=x.shape[1])
