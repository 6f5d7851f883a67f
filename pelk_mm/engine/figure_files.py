"""A figure on disk with its numbers beside it: refused before the work if the place is taken, written whole or not."""

from collections.abc import Mapping
from pathlib import Path

from .atomic import DISK_FULL, atomic_path
from .errors import OutputError


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
