"""Reading checkpoints without running code from them.

``torch.load`` of an untrusted file can run anything. Here a file is unpickled with a short list of harmless types, the
ones mmengine's own checkpoints hold; everything else is refused unless the caller trusts the file. mmengine itself
falls back to the unsafe way with a warning; :func:`safe_loading` closes that road for all that a tool loads.
"""

import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, load_from_local

from ..utils.errors import CheckpointError

MapLocation = str | torch.device | Callable | None
_READ_ERRORS = (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError)
STATISTICS = ('min', 'max', 'current', 'mean')


def _getattr_of_history_buffer(owner: object, name: str) -> Any:
    """Stand in for ``getattr``, by which a pickled ``HistoryBuffer`` names its own statistics."""
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {name!r}')


def safe_globals() -> list[Any]:
    """List the types and functions, beyond PyTorch's own list, that a checkpoint may name.

    Those are mmengine's ``HistoryBuffer`` and numpy scalars and arrays, under the module names of numpy 1 and 2.
    """
    core = np._core if hasattr(np, '_core') else np.core  # type: ignore[attr-defined]
    rebuild = (core.multiarray._reconstruct, core.multiarray.scalar)
    allowed: list[Any] = [(f, f'numpy.{c}.multiarray.{f.__name__}') for f in rebuild for c in ('core', '_core')]
    allowed += [np.ndarray, np.dtype, HistoryBuffer, (_getattr_of_history_buffer, 'builtins.getattr')]
    allowed += {type(np.dtype(code)) for code in '?bBhHiIlLqQefdgFDGSU'}
    return allowed


def read_checkpoint(path: str | os.PathLike[str], map_location: MapLocation = 'cpu', trust: bool = False) -> dict:
    """Read a checkpoint file; by default nothing in it can run code.

    Args:
        path: A local file written by ``torch.save``.
        map_location: As for ``torch.load``.
        trust: Unpickle anything the file holds. Only for files whose origin is known: it may run code.

    Returns:
        The dictionary the file holds. ``checkpoint['state_dict']`` exists: a bare state dict is wrapped.

    Raises:
        CheckpointError: If the file is missing, truncated, no checkpoint, or refused as unsafe.
    """
    checkpoint = unpickle(path, map_location, trust)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'checkpoint {path} holds a {type(checkpoint).__name__}, not a dictionary of weights')
    if 'state_dict' not in checkpoint:
        if not any(isinstance(value, torch.Tensor) for value in checkpoint.values()):
            keys = ', '.join(sorted(map(str, checkpoint))[:5]) or 'none'
            raise CheckpointError(f'checkpoint {path} holds no state_dict and no weights; its keys: {keys}')
        checkpoint = {'state_dict': checkpoint}
    return checkpoint


def unpickle(path: str | os.PathLike[str], map_location: MapLocation = 'cpu', trust: bool = False) -> Any:
    """Return whatever ``torch.save`` wrote to ``path``; arguments and errors as for :func:`read_checkpoint`."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise CheckpointError(f'checkpoint {path} {"is a folder, not a file" if file.is_dir() else "does not exist"}')
    try:
        with _allowed(), _weights_only_variables(None):
            return torch.load(file, map_location=map_location, weights_only=not trust)
    except pickle.UnpicklingError as error:
        name = re.search(r'GLOBAL ([\w.]+)', str(error))
        if name is None:
            raise _damaged(path, error) from error
        raise CheckpointError(
            f'checkpoint {path} is refused: unpickling it would use {name[1]}, which could run code. '
            'Pass --trust-checkpoint only if you know where the file comes from'
        ) from error
    except _READ_ERRORS as error:
        raise _damaged(path, error) from error


@contextmanager
def safe_loading(trust: bool = False) -> Iterator[None]:
    """Make every load inside the block go the safe way: ours, mmengine's, ``torch.hub``'s.

    Local files go through :func:`unpickle`; what mmengine fetches by itself (URLs and model-zoo names in ``init_cfg``)
    is unpickled with weights only. On leaving, mmengine's local loader and the environment stand as before.

    Args:
        trust: Load local files and URLs without these checks, as mmengine does on its own.
    """
    if trust:
        yield
        return

    def load_from_checked(filename: str, map_location: MapLocation) -> Any:  # mmengine logs what follows `load_from_`
        return unpickle(filename, map_location)

    CheckpointLoader.register_scheme(prefixes='', loader=load_from_checked, force=True)
    try:
        with _allowed(), _weights_only_variables('1'):
            yield
    finally:
        CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)


def _damaged(path: str | os.PathLike[str], error: Exception) -> CheckpointError:
    reason = str(error).split('\n')[0].strip() or type(error).__name__
    return CheckpointError(
        f'checkpoint {path} cannot be read: it is truncated, or was not written by torch.save ({reason})'
    )


@contextmanager
def _allowed() -> Iterator[None]:
    """Allow our list. PyTorch's own context removes on leaving what an outer one had added: add only what is new."""
    before = torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([item for item in safe_globals() if item not in before]):
        yield


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
