"""Reading checkpoints without running code from them and without trusting a size, an offset or a name in them.

``torch.load`` of an untrusted file can run anything, and its way with weights only still believes what the file says
about memory. Here a file is first checked from outside (:mod:`.archive`), then unpickled with a closed table of
constructors that check their arguments (:mod:`.vocabulary`) within a limit to memory (:mod:`.unpickler`). Reading takes
at most twice the file's size and 64 MiB. mmengine falls back to the unsafe way with a warning; :func:`safe_loading`
closes that road for all that a tool loads.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import torch
from torch.serialization import load as torch_load

from ..utils.errors import CheckpointError
from .archive import ZIP_START, is_legacy, read_records, size_of
from .contents import check_checkpoint
from .formats import HEAD, is_safetensors, read_safetensors, refuse_other_kinds
from .limits import Budget, MemoryLimitError
from .tree import check_content
from .unpickler import SafePickle
from .vocabulary import ForbiddenGlobalError

MapLocation = str | torch.device | Callable | None
_OBJECTS_BYTES = 48 << 20  # beside the file's size: the rest of the 64 MiB is for PyTorch and the directory


def read_checkpoint(path: str | os.PathLike[str], map_location: MapLocation = 'cpu', trust: bool = False) -> dict:
    """Read a checkpoint file; by default nothing in it can run code.

    Args:
        path: A local file written by ``torch.save``, or of safetensors.
        map_location: As for ``torch.load``.
        trust: Unpickle anything the file holds. Only for files whose origin is known: it may run code.

    Returns:
        The dictionary the file holds. ``checkpoint['state_dict']`` exists: a bare state dict is wrapped.

    Raises:
        CheckpointError: If the file is missing, truncated, damaged, no checkpoint, or refused as unsafe.
    """
    return as_checkpoint(unpickle(path, map_location, trust), path)


def as_checkpoint(checkpoint: object, path: str | os.PathLike[str]) -> dict:
    """Check what a file held, entry by entry; arguments as :func:`read_checkpoint` has them, result and errors too."""
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'checkpoint {path} holds a {type(checkpoint).__name__}, not a dictionary of weights')
    if 'state_dict' not in checkpoint:
        if not any(isinstance(value, torch.Tensor) for value in checkpoint.values()):
            keys = ', '.join(sorted(map(str, checkpoint))[:5]) or 'none'
            raise CheckpointError(f'checkpoint {path} holds no state_dict and no weights; its keys: {keys}')
        checkpoint = {'state_dict': checkpoint}
    check_checkpoint(checkpoint, str(path))
    return checkpoint


def unpickle(
    file: str | os.PathLike[str] | BinaryIO,
    map_location: MapLocation = 'cpu',
    trust: bool = False,
    namespaces: bool = False,
) -> Any:
    """Return whatever ``torch.save`` wrote, or the tensors of a file of safetensors.

    Args:
        file: A path, or a binary stream that can be searched.
        map_location: As for ``torch.load``.
        trust: As for :func:`read_checkpoint`.
        namespaces: Allow ``argparse.Namespace`` with the paths in it, the command line that authors keep beside their
            weights.

    Raises:
        CheckpointError: As :func:`read_checkpoint`.
    """
    if not isinstance(file, (str, os.PathLike)):
        return _unpickle(file, getattr(file, 'name', 'that was fetched'), map_location, trust, namespaces)
    path = os.path.expanduser(file)
    if not os.path.isfile(path):  # unlike the method of Path false, not an error, for a name that cannot be
        what = 'is a folder, not a file' if os.path.isdir(path) else 'does not exist'
        raise CheckpointError(f'checkpoint {file} {what}')
    try:
        with open(path, 'rb') as stream:
            return _unpickle(stream, str(file), map_location, trust, namespaces)
    except OSError as error:
        raise CheckpointError(f'checkpoint {file} cannot be opened: {error.strerror or error}') from error


def _unpickle(stream: BinaryIO, name: str, map_location: MapLocation, trust: bool, namespaces: bool) -> Any:
    try:
        head = stream.read(HEAD)
        refuse_other_kinds(head, name)
        if is_safetensors(head, size_of(stream)):
            device = map_location if isinstance(map_location, str | torch.device) else 'cpu'
            return {key: value.to(device) for key, value in read_safetensors(stream).items()}
        with _weights_only_variables(None):
            if trust:
                return torch_load(stream, map_location=map_location, weights_only=False, mmap=False)
            return _unpickle_checked(stream, map_location, namespaces)
    except CheckpointError:
        raise
    except ImportError as error:
        raise CheckpointError(f'checkpoint {name} cannot be read: {error}') from error
    except (ForbiddenGlobalError, MemoryLimitError) as error:
        use = f'unpickling it would use {_printable(error)}, which could run code or misuse memory'
        reason = use if isinstance(error, ForbiddenGlobalError) else str(error)
        raise CheckpointError(
            f'checkpoint {name} is refused: {reason}. '
            'Pass --trust-checkpoint only if you know where the file comes from'
        ) from error
    except Exception as error:  # what PyTorch and numpy raise for hostile bytes is not a closed list
        reason = _printable(str(error).split('\n')[0].strip() or type(error).__name__)
        raise CheckpointError(
            f'checkpoint {name} cannot be read: it is truncated, damaged, or was not written by torch.save ({reason})'
        ) from error


def _printable(text: object) -> str:
    """A file decides what is in this text: no control characters, and not more than a line or two."""
    return ''.join(character if character.isprintable() else '?' for character in str(text)[:200])


def _unpickle_checked(stream: BinaryIO, map_location: MapLocation, namespaces: bool) -> Any:
    size = size_of(stream)
    budget = Budget(size + _OBJECTS_BYTES)
    if stream.read(len(ZIP_START)) == ZIP_START:
        records = read_records(stream)
    elif is_legacy(stream):
        records = None
    else:
        raise ValueError('it starts as none of the formats of torch.save')
    stream.seek(0)
    module = SafePickle(budget, size, records, namespaces)
    content = torch_load(stream, map_location=map_location, pickle_module=module, weights_only=False, mmap=False)
    check_content(content, budget)
    return content


@contextmanager
def safe_loading(trust: bool = False) -> Iterator[None]:
    """Make every load inside the block go the safe way: ours, mmengine's, ``torch.hub``'s.

    ``torch.load`` is :func:`unpickle` there, wherever the file comes from: a path, a URL, a name of a model zoo, an
    object store. What has taken PyTorch's own function by another name unpickles with weights only. On leaving,
    everything stands as before.

    Args:
        trust: Load without these checks, as mmengine and PyTorch do on their own.
    """
    if trust:
        yield
        return

    def load(f: Any, map_location: MapLocation = None, *args: Any, **kwargs: Any) -> Any:
        return unpickle(f, map_location)

    before = torch.load
    torch.load = load  # type: ignore[assignment]
    try:
        with _weights_only_variables('1'):
            yield
    finally:
        torch.load = before


@contextmanager
def _weights_only_variables(force: str | None) -> Iterator[None]:
    """Set or clear PyTorch's two overriding variables, which would otherwise decide for us."""
    names = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    before = {name: os.environ.pop(name, None) for name in names}
    if force is not None:
        os.environ[names[0]] = force
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
