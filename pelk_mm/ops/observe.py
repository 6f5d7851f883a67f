"""Watching the public convolutions: each reports its calls to whoever observes, whatever back-end computes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from .tracing import compiling


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a public convolution.

    Attributes:
        operation: Name of the function: 'depthwise_conv2d', 'peripheral_conv2d', 'shiftwise_conv2d', 'visible_sum',
            'window_conv2d' or 'neighbourhood_gather'.
        shape: (N, C, H, W) of the input and of each output; (C, H, W) of the map that ``visible_sum`` makes.
        weight: The very tensor that the caller passed, before autocast: ``weight``, ``product`` of ``visible_sum``,
            ``attention`` of ``neighbourhood_gather``.
        kernel_size: (kh, kw) of the dense kernel; (M, M) of ``shiftwise_conv2d``; (w, w) of ``window_conv2d``, whose
            pixels meet those of their window.
    """

    operation: str
    shape: tuple[int, ...]
    weight: Tensor
    kernel_size: tuple[int, int]


class _State(threading.local):
    callbacks: tuple[Callable[[Call], object], ...] = ()
    inside = False


_state = _State()


@contextmanager
def observe(callback: Callable[[Call], object]) -> Iterator[None]:
    """While active, ``callback`` is given each call that this thread makes of a public convolution.

    A call is reported once, when it has computed its result. A call that raises is not reported, nor is one that
    another public convolution or a callback makes. Observers nest: all of them are told. Torch compiles and exports
    graphs without reports, and a compiled graph makes none when it runs.
    """
    outer = _state.callbacks
    _state.callbacks = (*outer, callback)
    try:
        yield
    finally:
        _state.callbacks = outer


def inside() -> bool:
    """Whether an observed convolution is computing on this thread: what torch dispatches now is part of that call."""
    return _state.inside


def reporting(
    operation: str, shape: tuple[int, ...], weight: Tensor, kernel_size: tuple[int, int]
) -> AbstractContextManager[None]:
    """What a public convolution computes within; arguments as the attributes of :class:`Call`."""
    # compiling() comes first: torch.compile need not look into the thread's state then
    if compiling() or not _state.callbacks or _state.inside:
        return nullcontext()
    return _reported(Call(operation, tuple(shape), weight, kernel_size))


@contextmanager
def _reported(call: Call) -> Iterator[None]:
    _state.inside = True
    try:
        yield
        for callback in _state.callbacks:
            callback(call)
    finally:
        _state.inside = False
