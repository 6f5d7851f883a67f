"""Ctrl-C, SIGTERM and SIGHUP end a tool in order: as an exception where it works, at once where it has not begun.

The first signal raises :class:`StopSignalError` in the main thread. A library may swallow it, as mmengine does while
it formats a config, so it is also remembered, and :func:`raise_if_stopped` raises it again at the next safe place.
Further signals change nothing while the tool cleans up, unless that takes longer than :data:`PATIENCE`.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 10.0  # seconds
_NAMES = ('SIGINT', 'SIGTERM', 'SIGHUP')


class StopSignalError(KeyboardInterrupt):
    """A signal has asked this process to end.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_status(self) -> int:
        """128 and the number of the signal, as shells count."""
        return 128 + self.number

    @property
    def word(self) -> str:
        """How a message names the end: 'interrupted', 'terminated' or 'hung up'."""
        return {'SIGTERM': 'terminated', 'SIGHUP': 'hung up'}.get(signal.Signals(self.number).name, 'interrupted')


class _Stop:
    """What has been asked of this process: its handlers are the process's own, and so is this."""

    number: int | None = None
    has_ended = False
    deferred = 0
    since = 0.0
    children_told = False


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """Let the signals raise :class:`StopSignalError` inside the block; handlers stand as before after it.

    A signal that is ignored stays so: ``nohup`` and the background jobs of shells count on it. Outside the main thread
    nothing changes. Forked processes, such as those that load data, leave Ctrl-C to the process that started them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    _Stop.number = None
    if not _Stop.children_told and hasattr(os, 'register_at_fork'):
        _Stop.children_told = True
        os.register_at_fork(after_in_child=_leave_to_parent)
    for number in _caught():
        before[number] = signal.signal(number, _on_signal)
    try:
        yield
    finally:
        _Stop.has_ended = _Stop.number is not None  # first: the handlers from before may ask
        for number, handler in before.items():
            signal.signal(number, handler)
        _Stop.number = None


def stopped_by() -> StopSignalError | None:
    """The signal that has come inside this :func:`stopping_in_order`, or None; outside of one always None."""
    return None if _Stop.number is None else StopSignalError(_Stop.number)


def has_ended() -> bool:
    """Whether the last :func:`stopping_in_order` was left because of a signal: the process ends, and has said so."""
    return _Stop.has_ended


def raise_if_stopped() -> None:
    """Raise what a library may have swallowed.

    Raises:
        StopSignalError: A signal has come.
    """
    if _Stop.number is not None:
        raise StopSignalError(_Stop.number)


@contextmanager
def stop_deferred() -> Iterator[None]:
    """Let a signal that comes inside the block raise behind it: for what must not be broken off in the middle.

    Raises:
        StopSignalError: Behind the block, if it has ended well.
    """
    _Stop.deferred += 1
    try:
        yield
    finally:
        _Stop.deferred -= 1
    if not _Stop.deferred:
        raise_if_stopped()


def _caught() -> list[signal.Signals]:
    numbers = [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _Stop.number is None:
        _Stop.number, _Stop.since = number, time.monotonic()
        if _Stop.deferred:
            return
        raise StopSignalError(number)
    if time.monotonic() - _Stop.since > PATIENCE:
        sys.stderr.write('interrupted again: stopped at once\n')
        sys.stderr.flush()
        os._exit(128 + number)


def _leave_to_parent() -> None:
    for number in _caught():
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
