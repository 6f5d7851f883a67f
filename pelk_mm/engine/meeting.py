"""Processes or machines that must all be there before work can start: who is missing is said while the others wait."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import torch

from ..utils.cli import say
from ..utils.errors import LaunchError, first_names
from ..utils.processes import local_rank, rank

TELL_EVERY = 15.0  # seconds
WAIT_AT_MOST = timedelta(minutes=30)
_PAUSE = 0.1


def meet(
    what: str,
    number: int,
    count: int,
    address: str,
    port: int,
    opens: bool,
    tell: Callable[[str, Sequence[int]], None],
    at_most: timedelta = WAIT_AT_MOST,
) -> Any:
    """Wait until all have come.

    Args:
        what: 'process' or 'machine', for messages.
        number: Which one this is, from 0.
        count: How many there are.
        address: Where they meet: the machine of number 0.
        port: And the port there.
        opens: Whether this one opens the meeting place. Later stores of this process at the same port share it.
        tell: Called every 15 seconds of waiting with one line and the numbers that are missing.
        at_most: How long to wait.

    Returns:
        The meeting place, to be kept while the others may still look.

    Raises:
        LaunchError: If not all have come in time, if two have the same number, or if the place is closed again.
    """
    waiting = _Waiting(what, address, port, at_most, tell)
    while not opens and not _is_open(address, port):
        waiting.pause([0])
    keys = [f'{what}/{i}/{os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")}' for i in range(count)]
    try:
        place = torch.distributed.TCPStore(
            address, port, count, opens, timedelta(seconds=60), wait_for_workers=False, multi_tenant=True
        )
        store = torch.distributed.PrefixStore('pelk_mm', place)
        if store.add(keys[number], 1) > 1:
            raise LaunchError(f'two of the {count} are {what} {number}: each must have a number of its own')
        while missing := [i for i, key in enumerate(keys) if not store.add(key, 0)]:
            waiting.pause(missing)
    except (RuntimeError, OSError) as error:  # torch's own errors of networks and stores are RuntimeErrors
        reason = str(error).split('\n')[0]
        raise LaunchError(f'{what} {number} cannot meet the others at {address}:{port}: {reason}') from error
    return place


def meet_processes(timeout: float | None) -> Any:
    """Wait for the other processes that ``torchrun`` or ``tools/launch.py`` has started; result and errors of ``meet``.

    Args:
        timeout: Seconds at most; None for 30 minutes.
    """
    number, local = rank('pytorch'), local_rank('pytorch')

    def tell(line: str, missing: Sequence[int]) -> None:
        if local == 0 or number - local in missing:  # the first process of a machine speaks for it, if it is there
            say(line)

    return meet(
        'process',
        number,
        int(os.environ['WORLD_SIZE']),
        os.environ['MASTER_ADDR'],
        int(os.environ['MASTER_PORT']),
        opens=number == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True',
        tell=tell,
        at_most=WAIT_AT_MOST if timeout is None else timedelta(seconds=timeout),
    )


class _Waiting:
    """How long one has waited: says so now and then, and ends it."""

    def __init__(
        self, what: str, address: str, port: int, at_most: timedelta, tell: Callable[[str, Sequence[int]], None]
    ) -> None:
        self._what, self._place, self._tell = what, f'{address}:{port}', tell
        self._told = time.monotonic()
        self._end = self._told + at_most.total_seconds()
        self._until = f'{datetime.now() + at_most:%H:%M:%S}'

    def pause(self, missing: Sequence[int]) -> None:
        now = time.monotonic()
        names = f'{self._what} {first_names([str(number) for number in missing], 8)}'
        if now > self._end:
            raise LaunchError(f'{names} did not come to {self._place} until {self._until}')
        if missing and now - self._told >= TELL_EVERY:
            self._told = now
            self._tell(f'waiting at {self._place} for {names}, until {self._until}', missing)
        time.sleep(_PAUSE)


def _is_open(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), timeout=5):
        return True
    return False
