"""A folder of weights that anybody can publish: ``config.json``, ``model.safetensors``, a card and checksums.

No file in it is a pickle, and nothing in it can run code: ``config.json`` names a backbone of a short list and plain
values for its arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .. import models
from ..checkpoints.loading import load_weights
from ..checkpoints.reading import read_checkpoint
from ..utils.errors import CheckpointError, naming
from .fetch import digest_of

CONFIG, WEIGHTS, CARD, SUMS = 'config.json', 'model.safetensors', 'README.md', 'SHA256SUMS'
FORMAT = 1
#: Backbones that a folder may name: what :mod:`pelk_mm.models` has, and mmpretrain's that are converted here.
BACKBONES = frozenset(
    f'pelk_mm.{name}'
    for name, kind in vars(models).items()
    if isinstance(kind, type) and hasattr(kind, 'arch_settings')
) | {'mmpretrain.ConvNeXt', 'mmpretrain.RepLKNet'}
_SUM = re.compile(r'([0-9a-f]{64}) [ *](\S+)')


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a folder's ``config.json``.

    Raises:
        CheckpointError: It is missing, or is not of this format.
    """
    file = folder / CONFIG
    try:
        content = json.loads(file.read_text())
    except OSError as error:
        raise CheckpointError(f'{file} cannot be read: {error.strerror or error}') from error
    except ValueError as error:
        raise CheckpointError(f'{file} is no JSON: {error}') from error
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise CheckpointError(f'{file} is not of format {FORMAT}, which publish_model.py of this version writes')
    model = content.get('model')
    if not isinstance(model, dict) or not isinstance(model.get('backbone'), dict):
        raise CheckpointError(f'{file} names no model with a backbone')
    return content


def check_sums(folder: Path) -> None:
    """Compare the files of a folder with its checksums; one without any is let through.

    Raises:
        CheckpointError: A file is missing, was altered or cut off.
    """
    sums = folder / SUMS
    if not sums.is_file():
        return
    for line in sums.read_text(errors='replace').splitlines():
        match = _SUM.fullmatch(line)
        if match is None or '/' in match[2]:
            raise CheckpointError(f'{sums} has a line that is no checksum of a file beside it')
        file = folder / match[2]
        if not file.is_file():
            raise CheckpointError(f'{file} is missing, but {SUMS} names it')
        if digest_of(file) != match[1]:
            raise CheckpointError(f'{file} was altered or cut off: its SHA-256 is not the one in {SUMS}')


def build_backbone(model: Mapping[str, Any], source: object, options: Mapping[str, Any]) -> nn.Module:
    """Build the backbone that a model's config names, with the caller's options in place of its own.

    Raises:
        CheckpointError: It is none of :data:`BACKBONES`.
        ConfigError: It cannot be built.
    """
    config = {**model['backbone'], **options}
    if config.get('type') not in BACKBONES:
        raise CheckpointError(f'{source} names the backbone {config.get("type")!r}, which is none of this package')
    if model['backbone'].get('init_cfg') is not None:
        raise CheckpointError(f'{source} names an init_cfg, which would load another file')
    with torch.random.fork_rng(devices=[]), naming(f'the backbone of {source}'):
        torch.manual_seed(0)  # of what no checkpoint has, such as the norms of further outputs
        return MODELS.build(config)


def fill_backbone(backbone: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Put a classifier's weights into its backbone; only norms of outputs that a classifier has not may be missing.

    Raises:
        CheckpointError: The first keys that do not fit are named.
    """
    start = 'backbone.'
    own = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
    unread = {key for key in own if key not in backbone.state_dict() and re.fullmatch(r'norm\d\..*', key)}
    own = {key: value for key, value in own.items() if key not in unread}
    fresh = {
        key: value
        for key, value in backbone.state_dict().items()
        if key not in own and re.fullmatch(r'norm\d\..*', key)
    }
    load_weights(backbone, {'state_dict': own | fresh}, str(source), demand_all=True)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a folder, by their names.

    Raises:
        CheckpointError: The file is missing or damaged, or safetensors is not installed.
    """
    return read_checkpoint(folder / WEIGHTS)['state_dict']
