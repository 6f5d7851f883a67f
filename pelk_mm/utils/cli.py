"""What every command-line tool does around its work: one clear line for an error, and the right exit status."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import DictAction

from .errors import InterruptedTrainingError, UserError
from .files import DISK_FULL


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


def run_tool(main: Callable[[], int | None]) -> int:
    """Run ``main`` and turn what went wrong into one line on stderr and an exit status.

    A :class:`~pelk_mm.utils.errors.UserError` gives its own status (2 for bad input, 1 for a failed write, 130 for
    Ctrl-C), a full disk 1, a bare Ctrl-C 130. Anything else is a defect and keeps its traceback.
    With several processes on a node only the first speaks, since all of them stop for the same reason.

    Returns:
        The exit status, for ``sys.exit``.
    """
    try:
        status = main() or 0
        _leave_process_group()
        return status
    except UserError as error:
        if isinstance(error, InterruptedTrainingError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        report(f'{"interrupted" if error.exit_status == 130 else "error"}: {error}')
        if os.environ.get('PELK_MM_LOG', '').lower() == 'debug' and error.__cause__ is not None:
            raise
        return error.exit_status
    except KeyboardInterrupt:
        # Launchers send the signal a second time, which must not cut the line off.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        report('interrupted')
        return 130
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = f' while writing {error.filename}' if error.filename else ''
        report(f'error: {error.strerror}{where}: free some space and start again')
        return 1


def _leave_process_group() -> None:
    """Close the connections to the other processes and end their threads, which would now and then abort an exit."""
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # a model wrapped for several processes refers to itself, and keeps the group alive


def report(line: str) -> None:
    """Write one line to stderr from the first process of each node."""
    if os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) == '0':
        rank = os.environ.get('RANK', '0')
        sys.stderr.write(f'{"" if rank == "0" else f"[rank {rank}] "}{" ".join(line.split())}\n')
        sys.stderr.flush()
