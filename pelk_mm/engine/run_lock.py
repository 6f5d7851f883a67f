"""One training a folder, by a lock of the kernel: it ends with the process that holds it, however that ends."""

import errno
import getpass
import inspect
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..utils.errors import OutputError

LOCK_NAME = '.lock'


@contextmanager
def run_lock(folder: str | os.PathLike[str], warn: Callable[[str], None]) -> Iterator[None]:
    """Hold a work directory for one training.

    The lock file names who holds it. Processes that load data do not inherit the lock, so none that outlives a killed
    training keeps the folder. Where the file system has no locks, the run is warned and goes on.

    Args:
        folder: The work directory; it is made where it is missing, and removed again if nothing else has come into it.
        warn: Called with one line where there can be no lock.

    Raises:
        OutputError: If another training holds the folder, named with its user, machine and process; or if the folder
            cannot be made or written.
    """
    folder = Path(folder)
    made = not os.path.exists(folder)
    if not made and not folder.is_dir():
        raise OutputError(f'work directory {folder} is a file')
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise OutputError(f'work directory {str(folder)!r} cannot be made: {reason}') from error
    file = folder / LOCK_NAME
    # Torch brings filelock. Before its release 4 child processes, such as those that load data, inherit a lock.
    if 'fallback_to_soft' not in inspect.signature(FileLock).parameters:
        warn(f'no lock on {folder}: filelock is older than 4.0. Start no second training there')
        yield
        return
    lock = FileLock(file, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            f'another training is running in {folder} ({_read_owner(file)}): wait for it, stop it, or pass another '
            '--work-dir'
        ) from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(f'work directory {folder} cannot be written: {error.strerror}') from error
        warn(f'no lock on {folder}, which cannot hold one ({error.strerror}): start no second training there')
        yield
        return
    try:
        with suppress(OSError):
            file.write_text(f'process {os.getpid()} of {_user()} on {socket.gethostname()} since {time.ctime()}\n')
        yield
    finally:
        if made:
            with suppress(OSError):
                if [*folder.iterdir()] == [file]:
                    file.unlink()
                    folder.rmdir()
        lock.release()


def _read_owner(file: Path) -> str:
    for _ in range(20):  # the owner writes its name once it has the lock
        with suppress(OSError):
            owner = ' '.join(file.read_text(errors='replace')[:200].split())
            if owner:
                return owner
        time.sleep(0.05)
    return 'its name cannot be read'


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f'user {os.getuid()}' if hasattr(os, 'getuid') else 'unknown'
