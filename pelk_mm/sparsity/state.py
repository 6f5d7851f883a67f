"""What a checkpoint holds about sparsity, its checks on the way back, and the check that all processes agree."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather, get_world_size
from torch import Tensor

from ..checkpoints.schema import MismatchError, anything, mapping, number, record, sequence, tensor
from ..utils.errors import CheckpointError, first_names
from .units import Units

SPARSITY_KEY = 'sparsity'  # top-level key of the checkpoint
_RULE = record(
    {
        'masks': mapping(tensor(torch.bool)),
        'shapes': mapping(sequence(number(1, whole=True))),
        'step': number(0, whole=True),
        'seed': number(whole=True),
        'settings': mapping(anything),
    }
)
_DECIDED_ONCE = ('granularity', 'sparsity', 'dense_above')


@dataclass
class SparsityState:
    """The state of sparse training.

    Attributes:
        masks: bool tensors by weight name, for the layers that are not dense.
        step: Optimizer steps done.
        seed: Of all random choices.
    """

    masks: dict[str, Tensor]
    step: int
    seed: int

    def pack(self, weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
        """Make the checkpoint's entry: masks on the CPU (one byte a weight), the shapes of all maskable weights."""
        return {
            'masks': {name: mask.cpu() for name, mask in self.masks.items()},
            'shapes': {name: list(weight.shape) for name, weight in weights.items()},
            'step': self.step,
            'seed': self.seed,
            'settings': dict(settings),
        }


def unpack(entry: Any, weights: Mapping[str, Tensor], units: Units) -> SparsityState:
    """Read a checkpoint's entry for a model with these maskable weights; masks go to their devices.

    Raises:
        CheckpointError: The entry is malformed or was saved for other weights; the first ones are named.
    """
    try:
        _RULE(entry, SPARSITY_KEY)
    except MismatchError as error:
        raise CheckpointError(f'the checkpoint is damaged or was changed: {error}') from error
    shapes, masks = entry['shapes'], entry['masks']
    in_model = {name: list(weight.shape) for name, weight in weights.items()}
    findings = {
        'missing': [name for name in in_model if name not in shapes],
        'additional': [name for name in shapes if name not in in_model],
        'of another shape': [
            f'{name} ({shapes[name]} in the checkpoint, {shape} in the model)'
            for name, shape in in_model.items()
            if name in shapes and list(shapes[name]) != shape
        ],
        'no mask of the weight': [
            name for name, mask in masks.items() if name in in_model and not fits(mask, in_model[name], units)
        ],
    }
    findings['additional'] += [name for name in masks if name not in in_model and name not in shapes]
    if any(findings.values()):
        text = '; '.join(f'{what}: {first_names(names)}' for what, names in findings.items() if names)
        raise CheckpointError(
            f'the sparsity masks of the checkpoint do not fit the weights that the hook of this config masks ({text}). '
            'Resume with the model, the include= and the granularity= it was trained with'
        )
    return SparsityState(
        {name: mask.to(weights[name].device) for name, mask in masks.items()}, entry['step'], entry['seed']
    )


def compare_settings(saved: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """List the settings that differ from those saved, one phrase each: they hold from here on.

    What the checkpoint does not name is not compared.

    Raises:
        CheckpointError: A setting differs that was used once, when the masks were made: going on would ignore it.
    """
    differ = {key: (saved[key], value) for key, value in settings.items() if saved.get(key, value) != value}
    if saved.get('mode') == settings['mode'] == 'dynamic':
        for key in _DECIDED_ONCE:
            if key in differ:
                raise CheckpointError(
                    f'the checkpoint was trained with {key}={differ[key][0]} of the sparsity hook, the config says '
                    f'{differ[key][1]}: the density of each layer was decided at the first step and stays. '
                    f'Set {key}={differ[key][0]}, or start anew from its weights with --cfg-options load_from=PATH'
                )
    return [f'{key} was {before}, is {now}' for key, (before, now) in differ.items()]


def masks_that_fit(entry: object, weights: Mapping[str, Tensor], units: Units) -> dict[str, Tensor]:
    """Take from a checkpoint's entry the masks of the weights that the model shares with it."""
    masks = entry.get('masks') if isinstance(entry, dict) else None
    return {
        name: mask.to(weights[name].device)
        for name, mask in (masks if isinstance(masks, dict) else {}).items()
        if name in weights and fits(mask, weights[name].shape, units)
    }


def check_identical(masks: Mapping[str, Tensor], when: str) -> None:
    """Compare the masks of all processes by checksum.

    Raises:
        RuntimeError: Naming the layers that differ. Then the weights of the processes have drifted apart.
    """
    if get_world_size() == 1 or not masks:
        return
    sums = torch.tensor([zlib.crc32(np.packbits(mask.cpu().numpy()).tobytes()) for mask in masks.values()])
    gathered = torch.stack([other.cpu() for other in all_gather(sums)])  # (processes, layers)
    differ = (gathered != gathered[0]).any(0).tolist()
    if any(differ):
        layers = [name for name, different in zip(masks, differ, strict=True) if different]
        ranks = (gathered != gathered[0]).any(1).nonzero().flatten().tolist()
        raise RuntimeError(
            f'{when} the sparsity masks of process {ranks[0]} differ from those of process 0 in {first_names(layers)}. '
            'They are computed from the weights, so the weights of the processes have drifted apart'
        )


def fits(mask: object, weight_shape: Sequence[int], units: Units) -> bool:
    """Whether something is a mask of such a weight."""
    return isinstance(mask, Tensor) and mask.dtype == torch.bool and list(mask.shape) == units.shape(weight_shape)
