"""Processes, devices and ports: is what a launcher was asked for there?"""

import logging
import math
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..utils.cli import REPORTS, say
from ..utils.devices import gpu_count
from ..utils.errors import LaunchError
from ..utils.processes import VARIABLES
from .meeting import meet

ALLOW_CPU = 'PELK_MM_ALLOW_CPU'
_NEEDED = {
    'pytorch': (('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'), 'bash tools/dist_train.sh'),
    'slurm': (('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'), 'bash tools/slurm_train.sh'),
    'mpi': (('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'MASTER_ADDR'), 'mpirun'),
}
_COUNTS = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}


def check_launch(launcher: str) -> None:
    """Check, inside a process, that its launcher started it and that its GPU exists.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        LaunchError: Naming the variables that are missing or hold no number that can be, or the numbers of processes
            and GPUs.
    """
    if launcher == 'none':
        return
    names, start = _NEEDED[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise LaunchError(
            f'--launcher {launcher} needs the environment variable(s) {", ".join(missing)}: start it with {start}'
        )
    rank, local_rank = VARIABLES[launcher]
    _check_below(rank, _COUNTS[launcher])
    _check_below(local_rank, 'LOCAL_WORLD_SIZE')
    if launcher == 'pytorch':
        check_port(_number('MASTER_PORT'), bind=False)
    if not gpu_count() and launcher != 'pytorch':
        raise LaunchError(f'--launcher {launcher} needs GPUs, and PyTorch sees none: use the pytorch launcher on CPU')
    check_devices(_number('LOCAL_WORLD_SIZE') if 'LOCAL_WORLD_SIZE' in os.environ else 1)


def check_devices(processes: int) -> None:
    """Check that this machine has a GPU for each of its processes.

    Args:
        processes: Processes on this machine, one GPU each.

    Raises:
        LaunchError: If there are fewer GPUs; or none at all, unless ``PELK_MM_ALLOW_CPU=1`` says that CPU is meant.
    """
    if processes < 1:
        raise LaunchError(f'the number of GPUs must be at least 1, but got {processes}')
    present = gpu_count()
    if present == 0:
        if os.environ.get(ALLOW_CPU) != '1':
            raise LaunchError(
                f'{processes} GPU(s) asked for, but PyTorch sees none on this machine: set {ALLOW_CPU}=1 to run '
                f'{processes} CPU process(es) with gloo instead'
            )
    elif processes > present:
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        note = f' (CUDA_VISIBLE_DEVICES={visible})' if visible is not None else ''
        raise LaunchError(f'{processes} GPUs asked for, but this machine has {present}{note}')


def check_port(port: int, bind: bool = True) -> None:
    """Check that the port on which the processes will meet is free on this machine.

    Args:
        port: As the variable PORT gives it.
        bind: Also see that nothing listens there.

    Raises:
        LaunchError: If it is no port number, or something listens there.
    """
    if not 1 <= port <= 65535:
        raise LaunchError(f'PORT must lie between 1 and 65535, but got {port}')
    if not bind:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', port))
        except OSError as error:
            raise LaunchError(
                f'port {port} cannot be used ({error.strerror}): another job may run on this machine; '
                f'choose another one, such as PORT={_free_port()}'
            ) from error


def start_processes(
    script: str,
    arguments: Sequence[str],
    gpus: int,
    nnodes: int = 1,
    node_rank: int = 0,
    master_addr: str = '127.0.0.1',
    port: int = 29500,
) -> int:
    """Check devices and port, then run a script in several processes as ``torchrun`` does, without its reports.

    The processes leave their last lines to this one, which says that of the first to fail; ``torchrun`` would bury it
    under a traceback of its own.

    Args:
        script: Path of a Python file.
        arguments: Its arguments.
        gpus: Processes on this machine.
        nnodes: Machines in all.
        node_rank: Which of them this is.
        master_addr: Address of machine 0.
        port: Where the processes meet, on machine 0.

    Returns:
        0, or the exit status of the first process that failed.

    Raises:
        LaunchError: As :func:`check_devices` and :func:`check_port`, if a number is wrong, if another machine does not
            come, or if a process was killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    check_devices(gpus)
    if nnodes < 1:
        raise LaunchError(f'the number of machines (NNODES) must be at least 1, but got {nnodes}')
    if not 0 <= node_rank < nnodes:
        raise LaunchError(f'NODE_RANK must lie between 0 and {nnodes - 1}, as NNODES is {nnodes}, but got {node_rank}')
    check_port(port, bind=node_rank == 0)
    if os.environ.get('PELK_MM_LOG', '').lower() != 'debug':
        logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    # One thread a process unless the user says otherwise, as torchrun does with a warning.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    options = [f'--nnodes={nnodes}', f'--node_rank={node_rank}', f'--nproc_per_node={gpus}']
    options += [f'--master_addr={master_addr}', f'--master_port={port}']
    place = None
    if nnodes > 1:
        opens = node_rank == 0
        place = meet('machine', node_rank, nnodes, master_addr, port, opens, lambda line, _: say(line))
    with TemporaryDirectory(prefix='pelk_mm_') as lines, _variable(REPORTS, lines):
        try:
            run(parse_args([*options, script, *arguments]))
            return 0
        except ChildFailedError as error:
            failures = error.failures
            killed = next((rank for rank, failure in failures.items() if failure.exitcode < 0), None)
            if killed is not None:
                name = signal.Signals(-failures[killed].exitcode).name
                hint = ': out of memory?' if name == 'SIGKILL' else ''
                raise LaunchError(f'process {killed} was killed by {name}{hint}') from error
            status = failures[min(failures)].exitcode
            if not any(_pass_on(Path(lines, str(failures[rank].local_rank))) for rank in sorted(failures)):
                say(f'error: process {min(failures)} ended with status {status} and without a word')
            return status
        except SignalException as error:
            _pass_on(Path(lines, '0'))
            return 128 + error.sigval
        finally:
            del place  # not before the processes are done: theirs is the same


def _pass_on(file: Path) -> bool:
    """Say what a process has left to say; tell whether it left anything."""
    if not file.is_file():
        return False
    say(file.read_text().rstrip())
    return True


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _number(name: str) -> int:
    value = os.environ[name]
    if not value.isdecimal():
        raise LaunchError(f'the environment variable {name} must be a whole number, but is {value!r}')
    return int(value)


def _check_below(name: str, count: str) -> None:
    """Check that a process's number lies below their count, where the launcher gives both."""
    if name in os.environ and _number(name) >= (_number(count) if count in os.environ else math.inf):
        raise LaunchError(f'{name} must lie below {count}, which is {_number(count)}, but is {_number(name)}')


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(('', 0))
        return probe.getsockname()[1]
