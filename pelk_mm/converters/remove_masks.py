"""The work of ``tools/model_converters/remove_masks.py``: a sparsely trained checkpoint as an ordinary one."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..checkpoints.reading import read_checkpoint
from ..sparsity.state import SPARSITY_KEY, fits
from ..sparsity.units import GRANULARITIES
from ..utils.errors import CheckpointError, first_names
from ..utils.files import claim_file, save_atomic

# State dicts of a checkpoint, and what stands before a weight's name in each.
_STATE_DICTS = {'state_dict': '', 'ema_state_dict': 'module.'}
_DEPLOYED = ('meta', 'state_dict')


@dataclass(frozen=True)
class Removal:
    """What removing the masks found.

    Attributes:
        layers: Number of masked layers.
        zeros: Number of weights the masks hold at zero.
        total: Number of weights of the masked layers.
        dropped: Top-level keys that were left out.
    """

    layers: int
    zeros: int
    total: int
    dropped: list[str]


def remove_masks(
    checkpoint: str, out: str, weights_only: bool = False, overwrite: bool = False, trust_checkpoint: bool = False
) -> Removal:
    """Write a checkpoint without sparsity masks, in which the masked weights are zero.

    Both the weights and, where the checkpoint has them, their averages are multiplied by the masks first. The result
    evaluates, deploys and fine-tunes (``mode='fixed'`` finds its zeros) like any checkpoint; dynamic sparse training
    cannot be resumed from it.

    Args:
        checkpoint: Path of a checkpoint that ``DynamicSparsityHook`` has put masks into.
        out: Where to write.
        weights_only: Keep ``meta`` and ``state_dict`` only: no optimizer, schedules, log history and second weights.
        overwrite: Replace ``out`` if it exists.
        trust_checkpoint: Unpickle the checkpoint without restriction.

    Raises:
        OutputError: If ``out`` exists, or is the checkpoint itself.
        CheckpointError: If the checkpoint holds no masks, or masks that do not fit its weights.
        SaveError: If ``out`` cannot be written.
    """
    target = claim_file(out, overwrite, [checkpoint])
    state = read_checkpoint(checkpoint, trust=trust_checkpoint)
    entry = state.get(SPARSITY_KEY)
    masks = entry.get('masks') if isinstance(entry, dict) else None
    if not isinstance(masks, dict):
        raise CheckpointError(f'checkpoint {checkpoint} holds no sparsity masks: there is nothing to remove')
    for key, prefix in _STATE_DICTS.items():
        if key in state:
            state[key] = _masked(state[key], masks, prefix, f'{key} of checkpoint {checkpoint}')
    dropped = [key for key in state if key == SPARSITY_KEY or (weights_only and key not in _DEPLOYED)]
    save_atomic(target, {key: value for key, value in state.items() if key not in dropped})
    sizes = {name: state['state_dict'][name].numel() for name in masks}
    kept = sum(int(mask.sum()) * (sizes[name] // mask.numel()) for name, mask in masks.items())
    return Removal(len(masks), sum(sizes.values()) - kept, sum(sizes.values()), dropped)


def _masked(weights: dict[str, Any], masks: dict[str, Tensor], prefix: str, where: str) -> dict[str, Any]:
    """Multiply the weights by their masks."""
    misfits = [
        name
        for name, mask in masks.items()
        if f'{prefix}{name}' not in weights
        or not any(fits(mask, weights[f'{prefix}{name}'].shape, units) for units in GRANULARITIES.values())
    ]
    if misfits:
        raise CheckpointError(f'{where} has no weight that fits the masks of {first_names(misfits)}')
    return {**weights, **{f'{prefix}{name}': weights[f'{prefix}{name}'] * mask for name, mask in masks.items()}}
