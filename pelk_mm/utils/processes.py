"""Which of several processes this one is: its launcher says so, by variables that mean nothing without it."""

import os
from collections.abc import Sequence

#: By launcher, the variables of a process's number among all, and among those of its machine.
VARIABLES = {
    'pytorch': ('RANK', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}


def launcher_of(argv: Sequence[str]) -> str:
    """Read the value of ``--launcher`` from a command line; 'none' where it has none."""
    launcher = 'none'
    for word, following in zip(argv, [*argv[1:], ''], strict=True):
        if word == '--launcher':
            launcher = following
        elif word.startswith('--launcher='):
            launcher = word.partition('=')[2]
    return launcher


def settle_local_rank(launcher: str, given: int) -> None:
    """Set ``LOCAL_RANK``, which mmengine reads whatever the launcher: one left behind says nothing to a run by itself.

    Args:
        launcher: What has started this process: 'none', 'pytorch', 'slurm' or 'mpi'.
        given: What a launcher passed as ``--local_rank``; its variable has the say.
    """
    if launcher == 'none':
        os.environ['LOCAL_RANK'] = '0'
    else:
        os.environ.setdefault('LOCAL_RANK', str(given))


def rank(launcher: str) -> int:
    """This process's number among all; 0 without a launcher, or where its variable holds no number."""
    return _number(launcher, 0)


def local_rank(launcher: str) -> int:
    """This process's number among those of its machine; 0 as for :func:`rank`."""
    return _number(launcher, 1)


def is_first_process(launcher: str) -> bool:
    """Tell whether this process is the first of all, before the processes have met too."""
    return rank(launcher) == 0


def _number(launcher: str, which: int) -> int:
    value = os.environ.get(VARIABLES[launcher][which], '0') if launcher in VARIABLES else '0'
    return int(value) if value.isdecimal() else 0
