"""Weights from elsewhere: an address, or a file of a hub, becomes a file on this disk, whole and checked."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ..checkpoints.formats import HEAD, INSTALL, refuse_other_kinds
from ..utils.errors import CheckpointError, ConfigError

HUB, WEB = 'hf://', ('http://', 'https://')
_TRIES = 5
_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20
_HUB_FILE = re.compile(r'hf://([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)')


def is_remote(source: str | os.PathLike[str]) -> bool:
    """Whether a source is an address or a file of a hub."""
    return str(source).startswith((HUB, *WEB))


def fetch(
    source: str | os.PathLike[str],
    sha256: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Path:
    """Return a source as a local file; what is remote is downloaded once.

    A broken download is resumed, by the next call too. Several processes may ask for the same file.

    Args:
        source: A path; ``https://...``; or ``hf://OWNER/REPO/FILE``, with ``@REVISION`` behind REPO where one is meant.
        sha256: Of the file, or its first 8 or more digits; None where nobody publishes it.
        cache: Folder for what is downloaded; by default ``checkpoints`` of ``torch.hub.get_dir()``. Files of a hub lie
            in the cache of huggingface_hub.
        progress: Show a bar on stderr.

    Raises:
        CheckpointError: The file cannot be had, is a page, or is not the one that ``sha256`` means.
        ConfigError: ``source`` cannot be one; or it is of a hub, and huggingface_hub is not installed.
    """
    source = str(source)
    if source.startswith(HUB):
        path = _from_hub(source, progress)
    elif source.startswith(WEB):
        folder = Path(torch.hub.get_dir(), 'checkpoints') if cache is None else Path(cache)
        path = _from_web(source, folder, progress)
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            raise CheckpointError(f'checkpoint {source} does not exist')
    if sha256 is not None and not digest_of(path).startswith(sha256.lower()):
        advice = f'; remove {path} to download it again' if is_remote(source) else ''
        raise CheckpointError(f'checkpoint {source} was altered or cut off: its SHA-256 is not {sha256}{advice}')
    return path


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _from_hub(source: str, progress: bool) -> Path:
    match = _HUB_FILE.fullmatch(source)
    if match is None:
        raise ConfigError(f'a file of a hub is hf://OWNER/REPO/FILE, but got {source}')
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
    except ImportError as error:
        raise ConfigError(f'{source} is a file of a hub, which needs huggingface_hub: {INSTALL}') from error
    repo, revision, file = match.groups()
    if not progress:
        disable_progress_bars()
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except Exception as error:  # errors of the hub, of the network below it, and of names that cannot be
        raise CheckpointError(f'{source} cannot be had: {_first_line(error)}') from error
    finally:
        if not progress:
            enable_progress_bars()


def _from_web(url: str, folder: Path, progress: bool) -> Path:
    name = re.sub(r'[^\w.-]', '_', url.split('?')[0].rstrip('/').rpartition('/')[2]) or 'file'
    target = folder / f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{target}.lock'):
            if not target.is_file():
                _download(url, target, progress)
    except OSError as error:  # of the disk: those of the network have been named
        raise CheckpointError(f'{url} cannot be kept in {folder}: {error.strerror or error}') from error
    return target


def _download(url: str, target: Path, progress: bool) -> None:
    """Try several times, each from where the last one stopped, and put the whole file in its place."""
    part = target.with_name(f'{target.name}.part')
    for attempt in range(1, _TRIES + 1):
        try:
            with _bar(progress, target.name) as advance:
                _receive(url, part, advance)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.exists():  # the file has become shorter than the part
                part.unlink()
                continue
            if error.code < 500 or attempt == _TRIES:
                raise CheckpointError(f'{url} cannot be had: the server says {error.code} {error.reason}') from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # a file of ours
            if attempt == _TRIES:
                kept = f'; {part.stat().st_size} bytes are kept, and the next try resumes' if part.exists() else ''
                raise CheckpointError(f'{url} cannot be had: {_first_line(error)}{kept}') from error
        time.sleep(0.2 * attempt)
    else:
        raise CheckpointError(f'{url} cannot be had: the server offers no part of it')
    with open(part, 'rb') as file:
        head = file.read(HEAD)
    try:
        refuse_other_kinds(head, url)
    except CheckpointError:
        part.unlink()
        raise
    part.replace(target)
    with suppress(OSError):
        _tag_file(part).unlink()


def _receive(url: str, part: Path, advance: Callable[[int, int | None], Any]) -> None:
    """Append what is missing of a file to its part.

    Raises:
        ConnectionError: The server stopped before the length that it had announced.
    """
    request = urllib.request.Request(url, headers={'User-Agent': 'pelk_mm'})
    have = part.stat().st_size if part.exists() else 0
    tag = _tag_file(part).read_text() if have and _tag_file(part).exists() else ''
    if tag:  # the rest of the same file, or else the whole of another
        request.add_header('Range', f'bytes={have}-')
        request.add_header('If-Range', tag)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        resumed = answer.status == 206 and answer.headers.get('Content-Range', '').startswith(f'bytes {have}-')
        have = have if resumed else 0
        length = answer.headers.get('Content-Length', '')
        total = have + int(length) if length.isdigit() else None
        _tag_file(part).write_text(answer.headers.get('ETag') or answer.headers.get('Last-Modified') or '')
        with open(part, 'ab' if resumed else 'wb') as file:
            advance(have, total)
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                advance(have, total)
    if total is not None and have < total:
        raise ConnectionError(f'the server stopped after {have} of {total} bytes')


def _tag_file(part: Path) -> Path:
    return part.with_name(f'{part.name}.tag')


@contextmanager
def _bar(progress: bool, name: str) -> Iterator[Callable[[int, int | None], Any]]:
    if not progress:
        yield lambda have, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn('{task.description}'), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)


def _first_line(error: BaseException) -> str:
    reason = getattr(error, 'reason', None)
    text = str(reason if reason is not None else error).strip().split('\n')[0]
    return text or type(error).__name__
