"""Processes, devices and ports: is what a launcher was asked for there?"""

import logging
import os
import signal
import socket
from collections.abc import Sequence

from ..utils.devices import gpu_count
from ..utils.errors import LaunchError

ALLOW_CPU = 'PELK_MM_ALLOW_CPU'
_NEEDED = {
    'pytorch': (('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'), 'bash tools/dist_train.sh'),
    'slurm': (('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'), 'bash tools/slurm_train.sh'),
    'mpi': (('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'MASTER_ADDR'), 'mpirun'),
}


def check_launch(launcher: str) -> None:
    """Check, inside a process, that its launcher started it and that its GPU exists.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        LaunchError: Naming the variables that are missing, or the numbers of processes and GPUs.
    """
    if launcher == 'none':
        return
    names, start = _NEEDED[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise LaunchError(
            f'--launcher {launcher} needs the environment variable(s) {", ".join(missing)}: start it with {start}'
        )
    if not gpu_count() and launcher != 'pytorch':
        raise LaunchError(f'--launcher {launcher} needs GPUs, and PyTorch sees none: use the pytorch launcher on CPU')
    check_devices(int(os.environ.get('LOCAL_WORLD_SIZE', 1)))


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


def check_port(port: int) -> None:
    """Check that the port on which the processes will meet is free on this machine.

    Args:
        port: As the variable PORT gives it.

    Raises:
        LaunchError: If it is no port number, or something listens there.
    """
    if not 1 <= port <= 65535:
        raise LaunchError(f'PORT must lie between 1 and 65535, but got {port}')
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

    The processes speak for themselves; ``torchrun`` would bury their one line under a traceback of its own.

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
        LaunchError: As :func:`check_devices` and :func:`check_port`, or if a process was killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    check_devices(gpus)
    if node_rank == 0:
        check_port(port)
    if os.environ.get('PELK_MM_LOG', '').lower() != 'debug':
        logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    # One thread a process unless the user says otherwise, as torchrun does with a warning.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    options = [f'--nnodes={nnodes}', f'--node_rank={node_rank}', f'--nproc_per_node={gpus}']
    options += [f'--master_addr={master_addr}', f'--master_port={port}']
    try:
        run(parse_args([*options, script, *arguments]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        hint = ': out of memory?' if name == 'SIGKILL' else ''
        raise LaunchError(f'process {rank} was killed by {name}{hint}') from error
    except SignalException as error:
        return 128 + error.sigval
    return 0


def is_first_process() -> bool:
    """Tell whether this process has global rank 0, before the processes have met too."""
    names = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
    return next((os.environ[name] for name in names if name in os.environ), '0') == '0'


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(('', 0))
        return probe.getsockname()[1]
