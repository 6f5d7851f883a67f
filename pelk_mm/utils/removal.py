"""Removing a file only if it is the one that was meant, and never what a link points to."""

import os
import stat


def identify(path: str | os.PathLike[str]) -> list[int] | None:
    """Tell a regular file from what may take its place: its size in bytes and the time of its last change in ns.

    Returns:
        Both numbers, or None where there is no regular file: nothing, a folder or a symbolic link.
    """
    try:
        found = os.lstat(path)
    except (OSError, ValueError):  # ValueError: a name with a NUL character
        return None
    return [found.st_size, found.st_mtime_ns] if stat.S_ISREG(found.st_mode) else None


def remove_if_unchanged(path: str | os.PathLike[str], identity: list[int]) -> bool:
    """Remove a regular file that is as :func:`identify` saw it; leave anything else alone.

    Returns:
        Whether the file is gone.

    Raises:
        OSError: It cannot be removed.
    """
    if identify(path) != identity:
        return False
    os.unlink(path)
    return True
