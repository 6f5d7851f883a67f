"""Which back-end computes a large depthwise convolution, and why.

Each back-end has one predicate, ``can_run``: it answers the automatic choice and raises when the caller named the
back-end. A preference (:func:`set_backend`, else the environment variable ``PELK_MM_BACKEND``) falls back with a reason
logged once. ``PELK_MM_LOG=debug`` logs every choice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from .dense import WIDEST_FAST_ROW, depthwise_dense, exporting
from .library import Forward, shared_conv2d
from .segments import Segments, reachable

logger = logging.getLogger('pelk_mm')


@dataclass(frozen=True)
class Problem:
    """What a back-end needs to know of a call to say whether it can serve it."""

    input: Tensor
    rows: Segments
    columns: Segments
    needs_grad: bool

    @property
    def kernel_size(self) -> tuple[int, int]:
        """(kh, kw)."""
        return sum(self.rows), sum(self.columns)

    @property
    def reach(self) -> tuple[int, int]:
        """Height and width of the part of the kernel that does not always lie on the padding."""
        rows, columns = reachable(self.rows, self.input.shape[2]), reachable(self.columns, self.input.shape[3])
        return 2 * rows.radius + 1, 2 * columns.radius + 1


@dataclass(frozen=True)
class Backend:
    """One way to compute a depthwise convolution.

    Attributes:
        name: What callers say.
        run: (input, weight (C, 1, r, c), row segments, column segments, bias (C,) or (C, H, W) or None) to output.
        refusal: The reason why a problem cannot be served, or None where it can.
    """

    name: str
    run: Forward
    refusal: Callable[[Problem], str | None]

    def can_run(self, problem: Problem, raise_error: bool = False) -> bool:
        """Whether this back-end serves ``problem``; with ``raise_error`` a refusal is a RuntimeError."""
        reason = self.refusal(problem)
        if reason is not None and raise_error:
            others = [name for name, backend in BACKENDS.items() if backend.refusal(problem) is None]
            raise RuntimeError(f"backend='{self.name}' cannot run here: {reason}; these can: {', '.join(others)}")
        return reason is None


def _fft_refusal(problem: Problem) -> str | None:
    return None if torch._C.has_spectral else 'this build of torch has no FFT'


BACKENDS: dict[str, Backend] = {
    'dense': Backend('dense', depthwise_dense, lambda problem: None),
    'fft': Backend('fft', partial(shared_conv2d, backend='fft'), _fft_refusal),
}

_preferred: str | None = None


def available_backends() -> tuple[str, ...]:
    """Names that ``backend=`` takes."""
    return tuple(BACKENDS)


def set_backend(name: str | None) -> None:
    """Prefer a back-end wherever it can run; None goes back to ``PELK_MM_BACKEND`` or the automatic choice.

    Raises:
        ValueError: Unknown name.
    """
    global _preferred
    _preferred = None if name is None else _known('name', name).name


def depthwise(
    input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None, backend: str | None
) -> Tensor:
    """Run a checked depthwise convolution on the back-end of :func:`choose_backend`; arguments as ``Backend.run``."""
    needs_grad = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
    return choose_backend(Problem(input, rows, columns, needs_grad), backend).run(input, weight, rows, columns, bias)


def choose_backend(problem: Problem, backend: str | None = None) -> Backend:
    """The back-end that serves ``problem``.

    Args:
        problem: The call.
        backend: A name, which must be able to run; None for the preference or else the fastest that can run.

    Raises:
        ValueError: Unknown ``backend``.
        RuntimeError: The named back-end cannot serve the problem; the message says which condition failed.
    """
    if backend is not None:
        chosen = _known('backend', backend)
        chosen.can_run(problem, raise_error=True)
        return chosen
    if exporting():
        return _explained(BACKENDS['dense'], problem, 'the form that runs without this package')
    preferred = _preferred or os.environ.get('PELK_MM_BACKEND')
    if preferred:
        reason = BACKENDS[preferred].refusal(problem) if preferred in BACKENDS else f'unknown, choose from {_names()}'
        if reason is None:
            return _explained(BACKENDS[preferred], problem, 'preferred')
        _warn_once(f"preferred back-end '{preferred}' is passed over: {reason}")
    name = 'fft' if _fft_pays(problem) and BACKENDS['fft'].can_run(problem) else 'dense'
    return _explained(BACKENDS[name], problem, 'fastest by measurement')


# Read off `tools/analysis_tools/benchmark.py op` on a CPU. Below these counts of taps and of pixels, and where a row of
# the kernel is narrow enough for the stock convolution's fast path, the transforms cost more than they save. Gradients
# of stock convolutions have no fast path: there only the taps count.
FEWEST_TAPS = 100
FEWEST_PIXELS = 900


def _fft_pays(problem: Problem) -> bool:
    kh, kw = problem.reach
    pixels = problem.input.shape[2] * problem.input.shape[3]
    return kh * kw >= FEWEST_TAPS and (problem.needs_grad or (kw > WIDEST_FAST_ROW and pixels >= FEWEST_PIXELS))


def _known(argument: str, name: str) -> Backend:
    if name not in BACKENDS:
        raise ValueError(f'{argument} must be one of {_names()}, but got {name!r}')
    return BACKENDS[name]


def _names() -> str:
    return ', '.join(repr(name) for name in BACKENDS)


def _explained(backend: Backend, problem: Problem, why: str) -> Backend:
    if os.environ.get('PELK_MM_LOG') == 'debug':
        _debug_logging()
        logger.debug(
            'backend %s for input %s %s, kernel %s: %s',
            backend.name,
            tuple(problem.input.shape),
            problem.input.dtype,
            problem.kernel_size,
            why,
        )
    return backend


@cache
def _debug_logging() -> None:
    logger.setLevel(logging.DEBUG)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)
