"""Work in forked processes with limits of time and memory: whatever it does, its end is a result."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import torch

from ...utils.errors import UserError
from ...utils.resources import explain_resources

#: Called by the work with the name of the step that it begins.
Note = Callable[[str], None]
Work = Callable[[Note], Any]
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Limits:
    """What each process may take.

    Attributes:
        seconds: Of wall time; then it is killed.
        memory: Bytes of data; then its allocations fail.
        stop: Set to end all work soon.
    """

    seconds: float = 120.0
    memory: int = 8 << 30
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Failure:
    """How work failed.

    Attributes:
        step: That it was at.
        kind: Name of the exception's class; 'TimeoutError', 'MemoryError', or 'Killed' for a process that died.
        reason: First line of the message.
    """

    step: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f'{self.step}: {self.kind}: {self.reason}' if self.reason else f'{self.step}: {self.kind}'

    def is_like(self, other: Failure | None) -> bool:
        """Whether another failed at the same step with the same kind of error, and neither ran out of a limit."""
        limits = ('TimeoutError', 'MemoryError', 'Killed')
        return other is not None and (self.step, self.kind) == (other.step, other.kind) and self.kind not in limits


@dataclass(frozen=True)
class Result:
    """What work gave back, or how it failed."""

    value: Any = None
    failure: Failure | None = None


class StoppedError(UserError):
    """:attr:`Limits.stop` was set."""

    exit_status = 130


def run_limited(work: Work, limits: Limits) -> Result:
    """Run work in a forked process with one thread, fixed seeds and no output.

    Args:
        work: What it returns must be picklable.
        limits: Of the process.

    Raises:
        StoppedError: ``limits.stop`` was set.
    """
    return run_together([work], limits)[0]


def run_together(works: Sequence[Work], limits: Limits) -> list[Result]:
    """Run several works at once, each in a process of its own; when one fails, the others are killed.

    Raises:
        StoppedError: ``limits.stop`` was set.
    """
    context = multiprocessing.get_context('fork')
    results: list[Result | None] = [None] * len(works)
    steps = ['start'] * len(works)
    processes, pipes = [], []
    deadline = time.monotonic() + limits.seconds
    try:
        for number, work in enumerate(works):
            pipe, end = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(work, end, limits.memory, number))
            process.start()
            end.close()
            processes.append(process)
            pipes.append(pipe)
        while None in results:
            if limits.stop.is_set():
                raise StoppedError('stopped')
            open_pipes = [pipe for pipe, result in zip(pipes, results, strict=True) if result is None]
            for ready in wait(open_pipes, timeout=_POLL_SECONDS):
                number = pipes.index(ready)  # type: ignore[arg-type]  # nothing else was waited for
                try:
                    what, content = pipes[number].recv()
                except EOFError:
                    processes[number].join()
                    what, content = 'result', Result(failure=_death(steps[number], processes[number].exitcode))
                if what == 'step':
                    steps[number] = content
                else:
                    results[number] = content
            late = time.monotonic() > deadline
            if late or any(result is not None and result.failure is not None for result in results):
                kind = (
                    ('TimeoutError', f'not done after {limits.seconds:g} s') if late else ('Killed', 'another failed')
                )
                results = [
                    Result(failure=Failure(step, *kind)) if result is None else result
                    for result, step in zip(results, steps, strict=True)
                ]
    finally:
        for process in processes:
            process.kill()
            process.join()
        for pipe in pipes:
            pipe.close()
    return [result for result in results if result is not None]


def first_line(error: BaseException) -> str:
    """The first line of an exception's message that says something."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return next((' '.join(line.split()) for line in text.splitlines() if line.strip()), '')[:300]


def _child(work: Work, pipe: Connection, memory: int, number: int) -> None:
    step = 'start'

    def note(name: str) -> None:
        nonlocal step
        step = name
        pipe.send(('step', name))

    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        torch.set_num_threads(1)
        set_seeds(number)
        result = Result(work(note))
    except BaseException as error:  # whatever it is, it is the result
        kind = 'MemoryError' if explain_resources(error) is not None else type(error).__name__
        result = Result(failure=Failure(step, kind, first_line(error)))
    try:
        pipe.send(('result', result))
        pipe.close()
    finally:
        os._exit(0)  # what the parent does at its end is not this process's to do


def set_seeds(number: int) -> None:
    """Seed Python, NumPy and PyTorch."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def _death(step: str, status: int | None) -> Failure:
    if status is not None and status < 0:
        return Failure(step, 'Killed', f'by signal {signal.Signals(-status).name}')
    return Failure(step, 'Killed', f'it ended with exit status {status} and no result')
