"""Putting the weights of a checkpoint into a model, and finding the checkpoint to resume from."""

import logging
import os
import re
from pathlib import Path
from typing import cast

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from ..utils.errors import CheckpointError, first_names


def load_weights(model: nn.Module, checkpoint: dict, source: str, demand_all: bool) -> None:
    """Load ``checkpoint['state_dict']`` into a model and refuse weights of another architecture.

    Args:
        model: The model, possibly inside a distributed or test-time-augmentation wrapper.
        checkpoint: As :func:`~.reading.read_checkpoint` returns it.
        source: The file's name, for messages.
        demand_all: Every key of the model must be there in its shape (testing, resuming). Otherwise some keys must
            (fine-tuning); the rest is named in one warning and keeps its initial values.

    Raises:
        CheckpointError: Naming the first missing, unexpected and mismatched keys, or a tensor that holds NaN where at
            least half of them do and every key is demanded.
    """
    model = unwrap(model)
    _check_finite(checkpoint['state_dict'], source, demand_all)
    state = {key.removeprefix('module.'): value for key, value in checkpoint['state_dict'].items()}
    missing, unexpected, mismatched = _load(model, state)
    # Old checkpoints lack this counter, which only a cumulative moving average reads.
    missing, in_model = (
        [key for key in keys if not key.endswith('num_batches_tracked')] for keys in (missing, model.state_dict())
    )
    if not (missing or unexpected or mismatched):
        return
    loaded = max(len(in_model) - len(missing) - len(mismatched), 0)
    findings = '; '.join(
        f'{name}: {first_names(keys)}'
        for name, keys in (('missing', missing), ('unexpected', unexpected), ('of another shape', mismatched))
        if keys
    )
    if loaded == 0 or (demand_all and (missing or mismatched)):
        needed = 'all' if demand_all else 'at least some'
        raise CheckpointError(
            f'checkpoint {source} does not fit the model of the config: {loaded} of {len(in_model)} keys match, '
            f'{needed} must ({findings}). Is it a checkpoint of another architecture?'
        )
    print_log(
        f'Checkpoint {source} fits in part, {loaded} of {len(in_model)} keys; {findings}',
        logger='current',
        level=logging.WARNING,
    )


def find_latest_checkpoint(folder: str | os.PathLike[str], *others: str | os.PathLike[str]) -> Path | None:
    """Find the checkpoint that ``--resume`` goes on from.

    That is the one ``last_checkpoint`` names, also when the folder has been moved since; without it the newest
    ``.pth`` file that is not a ``best_*`` one, since those lack the optimizer's state. Of what ``last_checkpoint``
    holds only the name counts: no path in it leads out of the folders.

    Args:
        folder: The work directory.
        *others: More folders to look in, such as one that the checkpoint hook writes to.

    Returns:
        The file, or None where there is none.
    """
    folders = [Path(folder), *map(Path, others)]
    record = folders[0] / 'last_checkpoint'
    if record.is_file() and (name := Path(record.read_text(errors='replace').strip()).name):
        for file in (place / name for place in reversed(folders)):
            if os.path.isfile(file):  # unlike the method of Path false, not an error, for a name that cannot be
                return file
    files = [file for place in folders for file in place.glob('*.pth') if os.path.isfile(file)]
    files = [file for file in files if not file.name.startswith('best_')]
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def unwrap(model: nn.Module) -> nn.Module:
    """Take a model out of its distributed and test-time-augmentation wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = cast(nn.Module, model.module)
    return model


def _check_finite(state: dict, source: str, demand_all: bool) -> None:
    """Tell weights of a run that diverged."""
    # Of these PyTorch finds the least without a copy, and it is NaN where any value is.
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    floats = {name: value for name, value in state.items() if isinstance(value, torch.Tensor) and value.dtype in kinds}
    names = [n for n, value in floats.items() if value.numel() and not value.is_meta and value.detach().amin().isnan()]
    if not names:
        return
    finding = f'{len(names)} of the {len(floats)} floating-point tensors of checkpoint {source} hold NaN'
    if demand_all and 2 * len(names) >= len(floats):
        raise CheckpointError(
            f'{finding} ({first_names(names)}): the run that wrote it diverged; use an earlier checkpoint'
        )
    print_log(f'{finding}, the first is {names[0]}', logger='current', level=logging.WARNING)


def _load(model: nn.Module, state: dict) -> tuple[list[str], list[str], list[str]]:
    """Load what fits; return the keys missing, unexpected, and present in another shape."""
    try:
        keys = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        # PyTorch has loaded everything else by now, and names the tensors that did not fit only in this text.
        mismatched = re.findall(r'size mismatch for ([^:\s]+):', str(error))
        if not mismatched:
            raise
        in_model = model.state_dict().keys()
        return sorted(in_model - state.keys()), sorted(state.keys() - in_model), mismatched
    return list(keys.missing_keys), list(keys.unexpected_keys), []
