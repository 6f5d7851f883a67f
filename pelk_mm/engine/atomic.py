"""Files that are either whole or not there: written beside their place and moved into it when they are complete."""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from .errors import SaveError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; what was written takes the place of ``path`` when the block ends well.

    The data is on the disk before the old file gives way, so neither a full disk nor a kill can leave half a file.
    When the block fails, the partial file is removed and ``path`` stays as it was.

    Args:
        path: The file to write. Its folder is made where it is missing.

    Yields:
        A path in the same folder, ``.<name>.partial``.

    Raises:
        OSError: If the folder cannot be made or the file cannot be moved; whatever the block raises passes through.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.name}.partial')
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
    torch.save(content, buffer)
    try:
        with atomic_path(path) as partial:
            partial.write_bytes(buffer.getbuffer())
    except OSError as error:
        raise SaveError(f'{path} cannot be written: {error}') from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
