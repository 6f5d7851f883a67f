"""What every command-line tool does around its work: one clear line for an error, and the right exit status."""

import argparse
import gc
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from .errors import InterruptedTrainingError, UserError, folder_of, work_of
from .files import DISK_FULL
from .interrupts import raise_if_stopped, stopped_by, stopping_in_order
from .processes import local_rank, rank
from .resources import explain_resources

#: The variable that names a folder where processes leave their last lines to the launcher that has started them.
REPORTS = 'PELK_MM_REPORTS'


class KeyValueAction(DictAction):
    """``KEY=VALUE ...`` as a dictionary; what is none is an error of the command line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Parse the words behind the flag.

        Raises:
            ArgumentError: Naming the word that is no ``KEY=VALUE``, or has brackets that do not match.
        """
        for word in values or ():
            if not word.partition('=')[0] or '=' not in word:
                raise argparse.ArgumentError(self, f'expected KEY=VALUE, but got {word!r}')
            try:
                super().__call__(parser, namespace, [word], option_string)
            except AssertionError as error:
                raise argparse.ArgumentError(self, f'the brackets of {word!r} do not match') from error


def add_common_arguments(parser: argparse.ArgumentParser, launcher: bool = False) -> None:
    """Add the flags that several tools share; call it last, so that ``--help`` lists a tool's own flags first.

    Args:
        parser: Takes ``--trust-checkpoint`` and ``--cfg-options``.
        launcher: Also add ``--launcher`` and the ``--local_rank`` that some launchers pass on.
    """
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle checkpoints without restriction; they can then run any code',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE', help='settings to change in the config'
    )
    if launcher:
        parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
        parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by launchers')


def run_tool(main: Callable[[], int | None], launcher: str = 'none') -> int:
    """Run ``main`` and turn what went wrong into one line on stderr and an exit status.

    A :class:`~pelk_mm.utils.errors.UserError` gives its own status (2 for bad input, 1 for a failed write), a signal
    128 and its number (130 for Ctrl-C), a full disk or memory 1. Anything else is a defect: status 1, a line that says
    what was being done, and the traceback in a file. ``PELK_MM_LOG=debug`` shows tracebacks.
    With several processes on a machine only the first speaks, since all of them stop for the same reason; for a defect
    each does. Where ``tools/launch.py`` has started them, all leave their lines to it.

    Args:
        main: The tool's work.
        launcher: What has started this process: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        The exit status, for ``sys.exit``.
    """
    with stopping_in_order():
        try:
            status = main() or 0
            _leave_process_group()
            raise_if_stopped()
            return status
        except SystemExit:
            raise
        except BaseException as error:
            line, status, is_defect = _describe(error)
            if os.environ.get('PELK_MM_LOG', '').lower() == 'debug' and (is_defect or error.__cause__ is not None):
                report(line, launcher, is_defect)
                raise
            report(line + _keep_traceback(error) if is_defect else line, launcher, is_defect)
            return status


def report(line: str, launcher: str = 'none', from_all: bool = False) -> None:
    """Say how this process ends: one line on stderr, from the first process of each machine.

    Args:
        line: What to say; cut where it is very long; what cannot be printed is replaced.
        launcher: What has started this process.
        from_all: Every process speaks.
    """
    words = ' '.join(line.split())
    words = words if len(words) <= 1200 else f'{words[:800]} ... {words[-400:]}'
    words = ''.join(character if character.isprintable() else '?' for character in words)
    text = f'{f"[rank {rank(launcher)}] " if rank(launcher) else ""}{words}\n'
    folder = os.environ.get(REPORTS) if launcher == 'pytorch' else None
    if folder is not None:
        with suppress(OSError):
            Path(folder, str(local_rank(launcher))).write_text(text)
            return
    if from_all or local_rank(launcher) == 0:
        say(text.rstrip())


def say(line: str) -> None:
    """Write one line to stderr at once."""
    sys.stderr.write(f'{line}\n')
    sys.stderr.flush()


def _describe(error: BaseException) -> tuple[str, int, bool]:
    """What to say of an error, the exit status, and whether it is a defect."""
    stop = stopped_by()
    if isinstance(error, InterruptedTrainingError):
        return f'{stop.word if stop else "interrupted"}: {error}', stop.exit_status if stop else 130, False
    if stop is not None or isinstance(error, KeyboardInterrupt):
        return (stop.word, stop.exit_status, False) if stop else ('interrupted', 130, False)
    if isinstance(error, UserError):
        return f'error: {error}', error.exit_status, False
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        where = f' while writing {error.filename}' if error.filename else ''
        return f'error: {error.strerror}{where}: free some space and start again', 1, False
    if (remedy := explain_resources(error)) is not None:
        return f'error: {work_of(error)} stopped: {remedy}', 1, False
    reason = str(error).strip().split('\n')[0] or 'no reason given'
    return f'error: {work_of(error)} failed unexpectedly: {type(error).__name__}: {reason}', 1, True


def _keep_traceback(error: BaseException) -> str:
    """Write the traceback to a file; return the words that name it."""
    name = f'pelk_mm_traceback_{time.strftime("%Y%m%d_%H%M%S")}_{os.getpid()}.txt'
    text = ''.join(traceback.format_exception(type(error), error, error.__traceback__))
    for folder in (folder_of(error), tempfile.gettempdir()):
        if folder is not None:
            with suppress(OSError, ValueError):
                Path(folder, name).write_text(text)
                return f' (traceback in {Path(folder, name)})'
    return ' (PELK_MM_LOG=debug shows the traceback)'


def _leave_process_group() -> None:
    """Close the connections to the other processes and end their threads, which would now and then abort an exit."""
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # a model wrapped for several processes refers to itself, and keeps the group alive
