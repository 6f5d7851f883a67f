"""Files that are either whole or not there: written beside their place and moved into it when they are complete."""

import errno
import hashlib
import io
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from .errors import OutputError, SaveError
from .interrupts import stop_deferred

_PARTIAL = re.compile(r'\..*\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{16}\.partial', re.DOTALL)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: The marks between which a page holds a table that a tool writes.
START, END = '<!-- table: begin -->', '<!-- table: end -->'


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; what was written takes the place of ``path`` when the block ends well.

    The data is on the disk before the old file gives way, so neither a full disk nor a kill can leave half a file.
    When the block fails, the partial file is removed and ``path`` stays as it was.

    Args:
        path: The file to write. Its folder is made where it is missing.

    Yields:
        A path in the same folder, of a name that starts with a dot, ends in ``.partial`` and that no other call has:
        two writers of one file do not meet. One that is killed leaves it; see :func:`clear_partials`.

    Raises:
        OSError: If the folder cannot be made or the file cannot be moved; whatever the block raises passes through.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(_partial_name(target.name))
    try:
        yield partial
        _sync(partial)
        os.replace(partial, target)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every file system can sync a folder, and the file itself is safe already
        _sync(target.parent)


def clear_partials(folder: str | os.PathLike[str]) -> None:
    """Remove what writers of :func:`atomic_path` that were killed have left in a folder.

    Those of a process that lives on this machine stay. Another machine's are taken for left, so call this only where
    no other machine writes into the folder, such as under the lock of a run.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _PARTIAL.fullmatch(entry.name)
            if found is None or not entry.is_file(follow_symlinks=False):
                continue
            if found['host'] != _host() or not _is_alive(int(found['pid'])):
                with suppress(OSError):
                    os.unlink(entry.path)


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file so that it is never seen half written."""
    with atomic_path(path) as partial:
        partial.write_text(text)


def save_atomic(path: str | os.PathLike[str], content: Any) -> None:
    """``torch.save`` to a file that is never seen half written.

    Raises:
        SaveError: The file cannot be written.
    """
    # by way of memory: torch.save turns the errors of a file into ones of its own, without their reason
    buffer = io.BytesIO()
    with stop_deferred():  # broken off, PyTorch's writer would abort the process
        torch.save(content, buffer)
    try:
        with atomic_path(path) as partial:
            partial.write_bytes(buffer.getbuffer())
    except OSError as error:
        raise SaveError(f'{path} cannot be written: {error}') from error


def claim_file(path: str | os.PathLike[str], overwrite: bool, inputs: Iterable[str | os.PathLike[str]] = ()) -> Path:
    """See that a file may be written, before the work that fills it.

    Args:
        path: The file. Folders above it may be missing.
        overwrite: It may exist.
        inputs: Files that the work reads, none of which is ever replaced.

    Returns:
        ``path`` as a ``Path``.

    Raises:
        OutputError: It exists, is an input, a folder, a device or a link that leads nowhere, its name cannot be, or its
            folder cannot be made or written to.
    """
    _check_place(path)
    if os.path.isdir(path):
        raise OutputError(f'{path} is a folder, not a file')
    if os.path.lexists(path):
        if not os.path.exists(path):
            raise OutputError(f'{path} is a symbolic link that leads nowhere: remove it, or choose another name')
        if not os.path.isfile(path):
            raise OutputError(f'{path} is not a regular file: choose another name')
        for name in inputs:
            if os.path.exists(name) and os.path.samefile(path, name):
                raise OutputError(f'{path} is an input of this command: choose another name')
        if not overwrite:
            raise OutputError(f'{path} exists: pass --overwrite to replace it')
    return Path(path)


def claim_folder(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """See that files may be written into a folder, before the work that makes them.

    Args:
        path: The folder. It and those above it may be missing.
        overwrite: It may hold files; those of the same names are replaced.

    Returns:
        ``path`` as a ``Path``.

    Raises:
        OutputError: It holds something, is not a folder, its name cannot be, or it cannot be made or written to.
    """
    _check_place(path)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise OutputError(f'{path} is not a folder')
    if not overwrite and os.path.isdir(path) and os.listdir(path):
        raise OutputError(f'{path} is not empty: pass --overwrite to replace files of the same names in it')
    return Path(path)


def _check_place(path: str | os.PathLike[str]) -> None:
    """Check a name, and the folder that is there already of those above it."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # too long, a loop of links; a null character
        raise OutputError(f'{path} cannot be written: {getattr(error, "strerror", None) or error}') from error
    above = next(str(parent) for parent in Path(os.path.abspath(path)).parents if os.path.lexists(parent))
    if not os.path.isdir(above):
        raise OutputError(f'{path} cannot be written: {above} is not a folder')
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f'{path} cannot be written: no permission to write to the folder {above}')


def claim_files(out: str | Path, suffixes: tuple[str, ...], overwrite: bool) -> list[Path]:
    """The files to write: the PNG ``out`` and, beside it, the same name with other suffixes.

    Args:
        out: Path of the PNG.
        suffixes: Of the files beside it, such as '.csv'.
        overwrite: Existing files may be replaced.

    Returns:
        The paths, the PNG first.

    Raises:
        OutputError: ``out`` is no PNG, or as :func:`claim_file`.
    """
    png = Path(out)
    if png.suffix.lower() != '.png':
        raise OutputError(f'--out {out} must end in .png')
    return [claim_file(path, overwrite) for path in (png, *(png.with_suffix(suffix) for suffix in suffixes))]


def write_files(contents: Mapping[Path, bytes | str]) -> None:
    """Write files, each whole or not at all; folders are made.

    Raises:
        OutputError: A place cannot be written. A full disk passes through as the ``OSError`` it is.
    """
    for path, content in contents.items():
        try:
            with atomic_path(path) as partial:
                partial.write_bytes(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            raise OutputError(f'{path} cannot be written: {error.strerror}') from error


def around_table(page: Path) -> tuple[str, str]:
    """Return what stands on a page before and after the table between its two marks.

    Raises:
        OutputError: The page is missing, or has not the marks.
    """
    try:
        before, _, rest = page.read_text().partition(START)
    except (OSError, ValueError) as error:
        raise OutputError(f'{page} cannot be read: {error}') from error
    _, end, after = rest.partition(END)
    if not end:
        raise OutputError(f'{page} has no place for the table: {START} and {END}')
    return before, after


def write_table(page: Path, table: str) -> None:
    """Replace the table on a page, between its two marks.

    Raises:
        OutputError: As :func:`around_table`, or the page cannot be written.
    """
    before, after = around_table(page)
    write_files({page: f'{before}{START}\n{table}\n{END}{after}'})


def _partial_name(name: str) -> str:
    end = f'.{_host()}-{os.getpid()}-{secrets.token_hex(8)}.partial'
    room = 255 - len(end) - 1  # bytes that file systems leave for a name
    return f'.{name.encode()[:room].decode(errors="ignore")}{end}'


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
