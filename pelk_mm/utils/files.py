"""Files that are either whole or not there: written beside their place and moved into it when they are complete."""

import errno
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from .errors import OutputError, SaveError

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


def claim_files(out: str | Path, suffixes: tuple[str, ...], overwrite: bool) -> list[Path]:
    """The files to write: the PNG ``out`` and, beside it, the same name with other suffixes.

    Args:
        out: Path of the PNG.
        suffixes: Of the files beside it, such as '.csv'.
        overwrite: Existing files may be replaced.

    Returns:
        The paths, the PNG first.

    Raises:
        OutputError: ``out`` is no PNG, or a file is a folder, exists, or has something else than a folder above it.
    """
    png = Path(out)
    if png.suffix.lower() != '.png':
        raise OutputError(f'--out {out} must end in .png')
    paths = [png, *(png.with_suffix(suffix) for suffix in suffixes)]
    for path in paths:
        if path.is_dir():
            raise OutputError(f'{path} is a folder, not a file')
        if path.exists() and not overwrite:
            raise OutputError(f'{path} exists: pass --overwrite to replace it')
        above = next(parent for parent in path.absolute().parents if parent.exists())
        if not above.is_dir():
            raise OutputError(f'{path} cannot be written: {above} is not a folder')
    return paths


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


def write_table(page: Path, table: str) -> None:
    """Replace the table on a page, between its two marks.

    Raises:
        OutputError: The page is missing, has not the marks, or cannot be written.
    """
    try:
        text = page.read_text()
        before, _, rest = text.partition(START)
        _, end, after = rest.partition(END)
        if not end:
            raise OutputError(f'{page} has no place for the table: {START} and {END}')
        write_text_atomic(page, f'{before}{START}\n{table}\n{END}{after}')
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f'{page} cannot be rewritten: {error}') from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
