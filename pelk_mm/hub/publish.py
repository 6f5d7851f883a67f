"""The work of ``tools/model_converters/publish_model.py``: a checkpoint as a folder that :mod:`.model_folder` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.deploy import is_deployed
from ..checkpoints.formats import INSTALL
from ..checkpoints.reading import read_checkpoint
from ..engine.config import load_config
from ..utils.errors import CheckpointError, ConfigError
from ..utils.files import claim_folder, write_files
from ..version import __version__
from .model_folder import (
    CARD,
    CONFIG,
    FORMAT,
    SUMS,
    WEIGHTS,
    build_backbone,
    check_sums,
    fill_backbone,
    read_config,
    read_weights,
)

_PARTS = ('backbone', 'neck', 'head')


@dataclass(frozen=True)
class Card:
    """What a reader has to know of weights.

    Attributes:
        licence: Of the weights, by its SPDX name.
        data: What they were trained on.
        recipe: How: a config, or a sentence.
        scores: ``NAME=VALUE`` each.
        command: What printed the scores.
    """

    licence: str
    data: str
    recipe: str
    scores: Sequence[str] = ()
    command: str = ''


def publish_model(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    card: Card,
    config: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a folder of weights and read it back.

    Args:
        checkpoint: Of a classifier, or of a backbone with ``backbone.`` in its names; in its training form.
        folder: Where to write ``config.json``, ``model.safetensors``, the card ``README.md`` and ``SHA256SUMS``.
        card: What stands in ``README.md``.
        config: Whose ``model`` the checkpoint is of; None where the converter has written that into the checkpoint.
        overwrite: Replace these files.

    Returns:
        The folder.

    Raises:
        ConfigError: The model is not known, an entry of the card is missing, or safetensors is not installed.
        CheckpointError: The checkpoint cannot be read, is deployed, or does not fit the model.
        OutputError: The folder holds something already, or cannot be written.
    """
    _check_card(card)
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise ConfigError(f'publishing needs safetensors: {INSTALL}') from error
    target = claim_folder(folder, overwrite)
    content = read_checkpoint(checkpoint)
    if is_deployed(content):
        raise CheckpointError(f'checkpoint {checkpoint} is deployed: publish the one that was trained, which has both')
    model = _model_of(content, checkpoint, config)
    state = {key: value.detach().clone().contiguous() for key, value in _weights(content).items()}
    backbone = build_backbone(model, config or checkpoint, {})
    fill_backbone(backbone, state, checkpoint)
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    described = json.dumps({'format': FORMAT, 'pelk_mm': __version__, 'model': model}, indent=2) + '\n'
    files: dict[str, bytes] = {
        CONFIG: described.encode(),
        WEIGHTS: save(state, metadata={'format': 'pt'}),
    }
    files[SUMS] = ''.join(f'{sha256(data).hexdigest()}  {name}\n' for name, data in files.items()).encode()
    files[CARD] = card_text(target.resolve().name, model, parameters, card).encode()  # which may be edited
    write_files({target / name: data for name, data in files.items()})
    _read_back(target, model, state)
    return target


def card_text(name: str, model: Mapping[str, Any], parameters: int, card: Card) -> str:
    """The model card, in Markdown with the head that hubs read."""
    arguments = ', '.join(f'{key}={value!r}' for key, value in model['backbone'].items())
    tags = ['large-kernel', 'image-classification' if 'head' in model else 'feature-extraction']
    lines = [
        '---',
        f'license: {card.licence}',
        'library_name: pelk_mm',
        'tags:',
        *(f'- {tag}' for tag in tags),
        '---',
        f'# {name}',
        '',
        '| | |',
        '|---|---|',
        f'| backbone | `dict({arguments})` |',
        f'| parameters of the backbone | {parameters:,} |',
        f'| trained on | {card.data} |',
        f'| recipe | {card.recipe} |',
        f'| licence of the weights | {card.licence} |',
        '',
        '## Scores',
        '',
    ]
    if card.scores:
        pairs = [score.split('=', 1) for score in card.scores]
        lines += ['| score | value |', '|---|---|', *(f'| {key} | {value} |' for key, value in pairs)]
        lines += ['', 'Printed by:', '', '```bash', card.command, '```']
    else:
        lines.append('None was given.')
    lines += [
        '',
        '## Use',
        '',
        '```python',
        'import pelk_mm',
        '',
        f"backbone = pelk_mm.from_pretrained('{name}', out_indices=(0, 1, 2, 3), gap_before_final_norm=False)",
        '```',
        '',
        f'With the path of this folder, or OWNER/{name} where it is on a hub. `{SUMS}` has the checksums.',
    ]
    return '\n'.join(lines) + '\n'


def _check_card(card: Card) -> None:
    for name in ('licence', 'data', 'recipe'):
        text = getattr(card, name)
        if not text.strip() or '\n' in text:
            raise ConfigError(f'--{name} must be one line of text, but got {text!r}')
    for score in card.scores:
        if not all(score.partition('=')):
            raise ConfigError(f'--scores must be NAME=VALUE each, but got {score!r}')
    if bool(card.scores) != bool(card.command.strip()):
        raise ConfigError('--scores and --command go together: a score stands beside the command that printed it')


def _model_of(
    content: Mapping[str, Any], checkpoint: str | os.PathLike[str], config: str | Path | None
) -> dict[str, Any]:
    """Configs of backbone, neck and head, as plain values."""
    if config is not None:
        model: Any = load_config(config).get('model')
    else:
        meta = content.get('meta')
        model = meta.get('model') if isinstance(meta, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(model.get('backbone'), Mapping):
        where = f'config {config}' if config is not None else f'checkpoint {checkpoint}'
        raise ConfigError(f'{where} names no model with a backbone: name the config that it was trained by, --config')
    parts = {name: dict(model[name]) for name in _PARTS if isinstance(model.get(name), Mapping)}
    for part in parts.values():
        part.pop('init_cfg', None)
    kind = parts['backbone'].get('type', '')
    if '.' not in kind:
        parts['backbone']['type'] = f'pelk_mm.{kind}'
    return json.loads(json.dumps(parts))


def _weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    state = {key.removeprefix('module.'): value for key, value in content['state_dict'].items()}
    own = {key: value for key, value in state.items() if key.split('.')[0] in _PARTS}
    if own.keys() != state.keys():
        other = sorted(state.keys() - own.keys())[0]
        raise CheckpointError(f'{other} is not of a backbone, neck or head: classifiers and backbones are published')
    return own


def _read_back(folder: Path, model: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    check_sums(folder)
    again = read_weights(folder)
    same = again.keys() == state.keys() and all(
        torch.equal(again[key], value) and again[key].dtype == value.dtype for key, value in state.items()
    )
    if not same or read_config(folder)['model'] != model:
        raise CheckpointError(f'{folder} does not read back as it was written: is its disk whole?')
