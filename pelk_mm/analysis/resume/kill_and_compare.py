"""Proving exact resuming on a config: kill its training by signals again and again, resume it, compare the ends."""

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...checkpoints.loading import find_latest_checkpoint
from ...utils.errors import OutputError, UserError
from .checkpoint_diff import checkpoint_differences

_STEP = re.compile(r' - INFO - (?:Iter|Epoch)\(train\) ')
_POLL_SECONDS = 0.01


class Process(Protocol):
    """A training in processes of its own, as ``subprocess.Popen`` gives."""

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""

    def kill(self) -> None:
        """Send SIGKILL to it and to all it has started."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to it."""

    def wait(self) -> int:
        """Wait for its end; return the exit status."""


Start = Callable[[Path, bool], Process]


@dataclass(frozen=True)
class Verdict:
    """What became of one killed run.

    Attributes:
        signal: Name of the signal that ended it.
        killed_in: The iteration in which it was killed, from 1. One more than there are: behind the last one, while
            that was being saved or validated.
        resumed_from: Name of the checkpoint it went on from; None if there was none yet.
        compared: Number of values compared with the run never killed.
        differences: One line for each value that differs, for an end that is not in order, and for a partial file
            that is left after resuming.
    """

    signal: str
    killed_in: int
    resumed_from: str | None
    compared: int
    differences: list[str]

    def __str__(self) -> str:
        start = f'resumed from {self.resumed_from}' if self.resumed_from else 'started again, no checkpoint yet'
        end = f'{len(self.differences)} of {self.compared} values differ, such as {self.differences[:1]}'
        what = 'killed' if self.signal == 'SIGKILL' else self.signal
        return f'{what} in iteration {self.killed_in}, {start}: {end if self.differences else self._equal()}'

    def _equal(self) -> str:
        return f'equal in all {self.compared} values'


class TrainingFailedError(UserError):
    """A training that was not killed ended with an error."""

    exit_status = 1


def kill_and_compare(
    start: Start, folder: Path, kills: int, seed: int = 0, signals: Sequence[str] = ('SIGKILL',)
) -> Iterator[Verdict]:
    """Train once to the end; then, for each kill, train again, kill it at a random moment, resume it, compare.

    The moment is drawn evenly over the iterations but the first, and over the time that an iteration takes; what is
    saved or validated after an iteration belongs to it. A signal that can be caught must end the training in order:
    with 128 and its number as exit status, and no partial file.

    Args:
        start: Starts the training in a work directory, resuming or not. It must log every iteration.
        folder: Where the work directories are made: ``whole`` and ``killed``. The second is removed after each
            comparison without difference.
        kills: How many times, at least 1.
        seed: Of the moments.
        signals: Names of signals, taken in turn.

    Yields:
        A verdict for each kill.

    Raises:
        ValueError: If ``kills`` is less than 1, or a signal is none.
        OutputError: If ``folder`` has something in it.
        TrainingFailedError: If a run ends otherwise than it should.
    """
    if kills < 1:
        raise ValueError(f'kills must be at least 1, but got {kills}')
    unknown = [name for name in signals if name not in signal.Signals.__members__]
    if unknown or not signals:
        raise ValueError(f'signals must be names such as SIGKILL and SIGTERM, but got {unknown or "none"}')
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f'{folder} is not empty: name a new folder')
    whole, killed = folder / 'whole', folder / 'killed'
    _finish(start(whole, False), whole)
    steps = count_steps(whole)
    if steps < 2:  # the moment lies behind the first
        raise TrainingFailedError(f'the training logged {steps} iteration(s): too few to be killed among them')
    moments = random.Random(seed)
    for number in range(kills):
        name = signals[number % len(signals)]
        step, fraction = moments.randint(2, steps), moments.random()
        with _running(start(killed, False)) as process:
            seconds = _wait_for(step - 1, killed, process)
            time.sleep(fraction * seconds)
            problems = [] if name == 'SIGKILL' else [*_end_in_order(process, signal.Signals[name], killed)]
        last = find_latest_checkpoint(killed)
        reached = count_steps(killed) + 1
        _finish(start(killed, True), killed)
        lines, compared = checkpoint_differences(_final(whole), _final(killed))
        if _final(whole).name != _final(killed).name:
            lines.insert(0, f'the last checkpoint is {_final(killed).name}, not {_final(whole).name}')
        lines += [*problems, *_partial_files(killed)]
        yield Verdict(name, reached, last.name if last else None, compared, lines)
        if not lines:
            shutil.rmtree(killed)
        else:
            killed = folder / f'{killed.name}_again'


def kill_tree(pid: int) -> None:
    """Send SIGKILL to a process and all its descendants, wherever these are grouped, and wait for their end.

    Processes that ``torchrun`` starts have sessions of their own and survive it. Linux only: it reads ``/proc``.
    """
    pids = [pid]
    for parent in pids:  # grows while it is walked
        for children in Path(f'/proc/{parent}/task').glob('*/children'):
            with suppress(OSError):
                pids += map(int, children.read_text().split())
    for process in pids:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    while any(is_alive(process) for process in pids):
        time.sleep(_POLL_SECONDS)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent to notice its end does not. Linux only."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except OSError:
        return False


def count_steps(work_dir: Path) -> int:
    """Count the iterations in the logs of a work directory."""
    return sum(len(_STEP.findall(file.read_text(errors='replace'))) for file in work_dir.glob('*/*.log'))


def _wait_for(step: int, work_dir: Path, process: Process) -> float:
    """Wait until an iteration is in the log; return the seconds that one has taken on average."""
    began = time.monotonic()
    first = 0
    while process.poll() is None and (logged := count_steps(work_dir)) < step:
        if not first:
            began, first = time.monotonic(), logged
        time.sleep(_POLL_SECONDS)
    return (time.monotonic() - began) / max(step - first, 1) if first else 0.0


@contextmanager
def _running(process: Process) -> Iterator[Process]:
    """Kill a training that still runs when the block ends, in whatever way it ends."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _end_in_order(process: Process, number: signal.Signals, work_dir: Path) -> Iterator[str]:
    """End a training by a signal; yield what was not in order."""
    with suppress(ProcessLookupError):
        process.send_signal(number)
    status = process.wait()
    if status not in (0, 128 + number):  # 0: it had just ended by itself
        yield f'{number.name} ended the training with exit status {status} instead of {128 + number}'
    yield from _partial_files(work_dir)


def _partial_files(work_dir: Path) -> list[str]:
    return [f'{file} is left' for file in work_dir.glob('.*.partial')]


def _finish(process: Process, work_dir: Path) -> None:
    with _running(process):
        status = process.wait()
    if status != 0:
        raise TrainingFailedError(f'the training in {work_dir} ended with exit status {status}')


def _final(work_dir: Path) -> Path:
    last = find_latest_checkpoint(work_dir)
    if last is None:
        raise TrainingFailedError(f'the training in {work_dir} has saved no checkpoint')
    return last
