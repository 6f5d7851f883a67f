"""Which back-end computes a large depthwise convolution, and why.

Importing this file imports the back-ends, which register themselves (:mod:`~pelk_mm.ops.backends.table`). Each has one
predicate, ``can_run``: it answers the automatic choice and raises when the caller named the back-end. A preference
(:func:`set_backend`, else the environment variable ``PELK_MM_BACKEND``) falls back with a reason logged once.
``PELK_MM_LOG=debug`` logs every choice.
"""

from __future__ import annotations

import logging
import os
from functools import cache

import torch
from torch import Tensor

from ...utils.compat import HAS_LIBRARY, outside_graphs
from ..segments import Segments
from ..tracing import compiling, exporting
from . import dense, fft, triton_support  # noqa: F401  (they register)
from .ranking import ranking
from .table import BACKENDS, Backend, Problem

if HAS_LIBRARY:
    from . import library  # noqa: F401  (defines the ops)

logger = logging.getLogger('pelk_mm')


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


def preference() -> str | None:
    """The name of :func:`set_backend`, else of ``PELK_MM_BACKEND``, else None."""
    return _preferred or os.environ.get('PELK_MM_BACKEND') or None


@outside_graphs
def depthwise(
    input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None, backend: str | None
) -> Tensor:
    """Run a checked depthwise convolution on the back-end of :func:`choose_backend`; arguments as ``Backend.run``."""
    needs_grad = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
    problem = Problem(input, rows, columns, needs_grad, bias is not None)
    return choose_backend(problem, backend).run(input, weight, rows, columns, bias)


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
    preferred = preference()
    if preferred:
        reason = BACKENDS[preferred].refusal(problem) if preferred in BACKENDS else f'unknown, choose from {_names()}'
        if reason is None:
            return _explained(BACKENDS[preferred], problem, 'preferred')
        if not compiling():  # a log would break the graph
            warn_once(f"preferred back-end '{preferred}' is passed over: {reason}")
    for name, why in ranking(problem):
        reason = BACKENDS[name].refusal(problem)
        if reason is None:
            return _explained(BACKENDS[name], problem, why)
        if name == 'triton' and not compiling():
            warn_once(f"back-end 'triton', the fastest for this call, is passed over: {reason}")
    return _explained(BACKENDS['dense'], problem, 'the others cannot run here')


def _known(argument: str, name: str) -> Backend:
    if name not in BACKENDS:
        raise ValueError(f'{argument} must be one of {_names()}, but got {name!r}')
    return BACKENDS[name]


def _names() -> str:
    return ', '.join(repr(name) for name in BACKENDS)


def _explained(backend: Backend, problem: Problem, why: str) -> Backend:
    if os.environ.get('PELK_MM_LOG') == 'debug' and not compiling():  # a log would break the graph
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
def warn_once(message: str) -> None:
    """Log a warning, the same one only once."""
    logger.warning(message)
