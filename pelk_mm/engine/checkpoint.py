"""Reading checkpoints without running code from them, and putting their weights into a model.

``torch.load`` of an untrusted file can run anything. Here a file is unpickled with a short list of harmless types, the
ones mmengine's own checkpoints hold; everything else is refused unless the caller trusts the file. mmengine itself
falls back to the unsafe way with a warning; :func:`safe_loading` closes that road for all that a tool loads.
"""

import logging
import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner.checkpoint import CheckpointLoader, load_from_local
from torch import nn

from ..utils.errors import CheckpointError, first_names

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


def load_weights(model: nn.Module, checkpoint: dict, source: str, demand_all: bool) -> None:
    """Load ``checkpoint['state_dict']`` into a model and refuse weights of another architecture.

    Args:
        model: The model, possibly inside a distributed or test-time-augmentation wrapper.
        checkpoint: As :func:`read_checkpoint` returns it.
        source: The file's name, for messages.
        demand_all: Every key of the model must be there in its shape (testing, resuming). Otherwise some keys must
            (fine-tuning); the rest is named in one warning and keeps its initial values.

    Raises:
        CheckpointError: Naming the first missing, unexpected and mismatched keys.
    """
    model = unwrap(model)
    state = {key.removeprefix('module.'): value for key, value in checkpoint['state_dict'].items()}
    missing, unexpected, mismatched = _load(model, state)
    # Old checkpoints lack this counter, which only a cumulative moving average reads.
    missing, own = (
        [key for key in keys if not key.endswith('num_batches_tracked')] for keys in (missing, model.state_dict())
    )
    if not (missing or unexpected or mismatched):
        return
    loaded = max(len(own) - len(missing) - len(mismatched), 0)
    findings = '; '.join(
        f'{name}: {first_names(keys)}'
        for name, keys in (('missing', missing), ('unexpected', unexpected), ('of another shape', mismatched))
        if keys
    )
    if loaded == 0 or (demand_all and (missing or mismatched)):
        needed = 'all' if demand_all else 'at least some'
        raise CheckpointError(
            f'checkpoint {source} does not fit the model of the config: {loaded} of {len(own)} keys match, '
            f'{needed} must ({findings}). Is it a checkpoint of another architecture?'
        )
    print_log(
        f'Checkpoint {source} fits in part, {loaded} of {len(own)} keys; {findings}',
        logger='current',
        level=logging.WARNING,
    )


def find_latest_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """Find the checkpoint that ``--resume`` goes on from.

    That is the one ``last_checkpoint`` names, also when the folder has been moved since; without it the newest
    ``.pth`` file that is not a ``best_*`` one, since those lack the optimizer's state.

    Returns:
        The file, or None where there is none.
    """
    folder = Path(folder)
    record = folder / 'last_checkpoint'
    if record.is_file() and (text := record.read_text().strip()):
        for file in (Path(text), folder / Path(text).name):
            if file.is_file():
                return file
    files = [file for file in folder.glob('*.pth') if not file.name.startswith('best_')]
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def unwrap(model: nn.Module) -> nn.Module:
    """Take a model out of its distributed and test-time-augmentation wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = cast(nn.Module, model.module)
    return model


def _load(model: nn.Module, state: dict) -> tuple[list[str], list[str], list[str]]:
    """Load what fits; return the keys missing, unexpected, and present in another shape."""
    try:
        keys = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        # PyTorch has loaded everything else by now, and names the tensors that did not fit only in this text.
        mismatched = re.findall(r'size mismatch for ([^:\s]+):', str(error))
        if not mismatched:
            raise
        own = model.state_dict().keys()
        return sorted(own - state.keys()), sorted(state.keys() - own), mismatched
    return list(keys.missing_keys), list(keys.unexpected_keys), []


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
