"""The work of ``tools/model_converters/convert_weights.py``: an authors' checkpoint as one of ours."""

import importlib
import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.reading import unpickle
from ..models.mlp_neck import MlpNeck
from ..models.overlock_head import OverLoCKHead
from ..utils.errors import CheckpointError, ConfigError, first_names, naming
from ..utils.files import claim_file, save_atomic
from .families import FAMILIES
from .layouts import Family, shape_of
from .rules import Renamed, fill, guess_source, rename

# Where a checkpoint may hold weights, the first that is there being taken.
ENTRIES = ('state_dict', 'model', 'state_dict_ema', 'model_ema')
# What a segmentor or detector has beside its backbone.
OTHER_PARTS = ('decode_head.', 'auxiliary_head.', 'neck.', 'rpn_head.', 'roi_head.', 'bbox_head.')
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, *_INTEGERS)


@dataclass(frozen=True)
class Translation:
    """What a conversion did.

    Attributes:
        entry: Where in the file the weights were; None for the file itself.
        others: Other entries that hold weights.
        model: Configs of the parts of mmpretrain's ``ImageClassifier`` that the result fits, by their names.
        read: How many keys were read.
        ignored: Keys that were left out on request.
        unseen: Arguments of the backbone, with their values, that the file could not confirm.
    """

    entry: str | None
    others: list[str]
    model: dict[str, dict[str, Any]]
    read: int
    ignored: list[str]
    unseen: dict[str, Any]


def convert_weights(
    family: str,
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    arch: str | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    entry: str | None = None,
    ignore: str | None = None,
    overwrite: bool = False,
    trust_checkpoint: bool = False,
) -> Translation:
    """Write the weights of an authors' checkpoint as ``{'meta', 'state_dict'}`` of a classifier built here.

    Nothing is written unless :func:`translate` succeeds.

    Args:
        family, checkpoint, arch, backbone_options, entry, ignore, trust_checkpoint: As for :func:`translate`.
        out: Where to write.
        overwrite: Replace ``out`` if it exists.

    Raises:
        OutputError: If ``out`` exists, or is the checkpoint itself.
        CheckpointError, ConfigError: As :func:`translate`.
        SaveError: If ``out`` cannot be written.
    """
    target = claim_file(out, overwrite, [checkpoint])
    done, content = translate(family, checkpoint, arch, backbone_options, entry, ignore, trust_checkpoint)
    save_atomic(target, content)
    return done


def translate(
    family: str,
    checkpoint: str | os.PathLike[str],
    arch: str | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    entry: str | None = None,
    ignore: str | None = None,
    trust_checkpoint: bool = False,
) -> tuple[Translation, dict[str, Any]]:
    """Translate the weights of an authors' checkpoint into ``{'meta', 'state_dict'}`` of a classifier built here.

    Every value of the target is filled in its shape; every key of the source is used.

    Args:
        family: Layout, a name in ``FAMILIES``.
        checkpoint: Path of the authors' file.
        arch: Name of the architecture that the file is to hold; by default what its shapes show.
        backbone_options: Arguments of the backbone that differ from its defaults and that shapes do not show.
        entry: Which of ``ENTRIES`` to take; by default the first that the file has.
        ignore: Regular expression of keys of the source that may be left out.
        trust_checkpoint: Unpickle the checkpoint without restriction.

    Raises:
        CheckpointError: If the checkpoint cannot be read, holds what is no finite number, or is one of another family
            or variant: the message names the first keys.
        ConfigError: If an argument is outside its choices, or the backbone cannot be built.
    """
    layout = FAMILIES.get(family)
    if layout is None:
        raise ConfigError(f'family must be one of {", ".join(FAMILIES)}, but got {family!r}')
    try:
        left_out = re.compile(ignore or '(?!)')
    except re.error as error:
        raise ConfigError(f'--ignore {ignore!r} is no regular expression: {error}') from error
    entry, others, source = _read_weights(checkpoint, entry, trust_checkpoint)
    ignored = [key for key in source if left_out.fullmatch(key)]
    source = {key: value for key, value in source.items() if key not in ignored}
    source = {key: value for key, value in source.items() if not re.fullmatch(layout.left_out, key)}
    for key, value in source.items():
        if fault := _fault(value):
            raise CheckpointError(f'checkpoint {checkpoint} cannot be converted: {key} {fault}')
    source, other_parts = _split(source) if layout.dense else (source, {})
    found, unused = rename(source, layout.rules)
    try:
        read_args = layout.read_args(found)
        parts, configs = _build_classifier(layout, found, read_args['arch']['channels'][-1])
    except KeyError as error:
        raise CheckpointError(
            f'checkpoint {checkpoint} is not of family {family}: missing, or of another shape: '
            f'{guess_source(error.args[0], found)}; unused: {first_names(unused) or "none"}'
        ) from error
    backbone, config = _build_backbone(layout, read_args, arch, backbone_options or {})
    template = nn.ModuleDict({'backbone': backbone, **parts}).state_dict()
    state, faults = fill(template, found, layout.own)
    faults['unused'] += unused
    if any(faults.values()):
        findings = '; '.join(f'{kind}: {first_names(keys)}' for kind, keys in faults.items() if keys)
        if faults['of another shape'] and layout.unseen:
            values = ' '.join(f'{name}=...' for name in layout.unseen)
            findings += f'; a net trained with other {" or ".join(layout.unseen)} needs --backbone-options {values}'
        raise CheckpointError(f'checkpoint {checkpoint} of family {family} does not fit {_call(config)}: {findings}')
    state |= {key: value.detach().clone() for key, value in other_parts.items()}
    configs = {'backbone': config, **configs}
    meta = {'family': family, 'source': Path(checkpoint).name, 'entry': entry, 'model': configs}
    defaults = inspect.signature(type(backbone)).parameters
    unseen = {name: config.get(name, defaults[name].default) for name in layout.unseen}
    done = Translation(entry, others, configs, len(source) + len(other_parts), ignored, unseen)
    return done, {'meta': meta, 'state_dict': state}


def describe(done: Translation) -> list[str]:
    """Lines that say what was read, and what a config must say to load the result."""
    lines = [f'read: {done.read} keys of {done.entry or "the file"}']
    if done.others:
        lines[0] += f' (--entry {" or ".join(done.others)} would read others)'
    if done.ignored:
        lines.append(f'ignored: {first_names(done.ignored)}')
    lines += [f'{part}: {_call(config)}' for part, config in done.model.items()]
    if 'head' not in done.model:
        lines.append('head: the file has none, so that the result is a backbone to start from, not a classifier')
    if done.unseen:
        values = ', '.join(f'{name}={value!r}' for name, value in done.unseen.items())
        lines.append(f'taken on trust: {values}: the file cannot confirm them, and other values are another function')
    return lines


def _read_weights(
    path: str | os.PathLike[str], entry: str | None, trust: bool
) -> tuple[str | None, list[str], dict[str, Tensor]]:
    """The entry read, the others that were there, and the weights without the prefix of a distributed wrapper."""
    # The authors keep their command line beside the weights. Rebuilding a Namespace runs no code, and what it holds is
    # restricted like everything else.
    checkpoint = unpickle(path, trust=trust, namespaces=True)
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(f'checkpoint {path} holds a {type(checkpoint).__name__}, not a dictionary of weights')
    entries = [name for name in ENTRIES if isinstance(checkpoint.get(name), Mapping)]
    if entry is not None and entry not in entries:
        raise CheckpointError(f'checkpoint {path} has no entry {entry}; it has {", ".join(entries) or "none of those"}')
    if entry is None and entries:
        entry = entries[0]
    weights = checkpoint if entry is None else checkpoint[entry]
    wrong = [str(key) for key, value in weights.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if wrong or not weights:
        raise CheckpointError(f'checkpoint {path} holds no state dict: {first_names(wrong) or "it"} is no weight')
    prefix = 'module.' if all(key.startswith('module.') for key in weights) else ''
    return entry, [e for e in entries if e != entry], {key.removeprefix(prefix): weights[key] for key in weights}


def _fault(value: Tensor) -> str | None:
    """What keeps a tensor from being a weight."""
    if value.layout != torch.strided or value.is_nested or value.is_meta:
        return 'is no dense tensor with values'
    if value.dtype not in _NUMBERS:
        return f'is of type {value.dtype}'
    if not value.numel():
        return f'is empty, {tuple(value.shape)}'
    return None if value.float().isfinite().all() else 'holds values that are not finite in float32'


def _build_backbone(
    family: Family, read_args: Mapping[str, Any], arch: str | None, options: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The backbone to fill, and its config."""
    package, _, name = family.network.partition('.')
    with naming(family.network):
        network = getattr(importlib.import_module(f'{package}.models'), name)
    defaults = {name: parameter.default for name, parameter in inspect.signature(network).parameters.items()}
    args = {**family.args, **read_args}
    args = {key: value for key, value in args.items() if key == 'arch' or value != defaults.get(key, ...)}
    known = _name_of(args['arch'], network.arch_settings, family.width_factor)
    if arch is not None or known is not None:
        args['arch'] = arch or known
    elif family.width_factor != 1.0:
        args['width_factor'] = 1.0
    args.update(options)
    with torch.random.fork_rng(devices=[]), naming(f'the network {_call({"type": family.network, **args})}'):
        torch.manual_seed(0)
        backbone = network(**args)
    if family.prepare is not None:
        family.prepare(backbone)
    return backbone, {'type': family.network, **args}


def _split(source: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Keys of the backbone without its prefix, and those of the other parts of a segmentor or detector."""
    others = {key: value for key, value in source.items() if key.startswith(OTHER_PARTS)}
    return {key.removeprefix('backbone.'): value for key, value in source.items() if key not in others}, others


def _build_classifier(
    family: Family, found: Mapping[str, Renamed], width: int
) -> tuple[dict[str, nn.Module], dict[str, dict[str, Any]]]:
    """Neck and head behind ``width`` channels, and their configs; none where the source has no classifier."""
    if 'head.fc.weight' not in found:
        return {}, {}
    is_convolution = family.head != 'LinearClsHead' and len(found['head.fc.weight'].shape) == 4
    classes = shape_of(found, 'head.fc.weight', 4 if is_convolution else 2)[0]
    configs: dict[str, dict[str, Any]] = {} if family.neck is None else {'neck': {'type': family.neck}}
    with torch.device('meta'):  # for the shapes alone: all of these values come from the source
        parts: dict[str, nn.Module] = {}
        if family.neck == 'pelk_mm.MlpNeck':
            parts['neck'] = neck = MlpNeck(width)
            configs['neck']['in_channels'] = width
            width = neck.out_channels
        if family.head == 'pelk_mm.OverLoCKHead':
            overview = {'overview_channels': width} if 'head.overview_fc.weight' in found else {}
            width += width // 4
            parts['head'] = OverLoCKHead(classes, width, **overview, loss=None)
        else:
            overview = {}
            parts['head'] = nn.ModuleDict({'fc': nn.Linear(width, classes)})
    configs['head'] = {'type': family.head, 'num_classes': classes, 'in_channels': width, **overview}
    return parts, configs


def _name_of(arch: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]], width_factor: float) -> str | None:
    """The name of an architecture, its channels multiplied, that ``arch`` describes."""

    def comparable(arch: Mapping[str, Any], factor: float) -> dict[str, Any]:
        values = {key: list(value) if isinstance(value, tuple | list) else value for key, value in arch.items()}
        return {**values, 'channels': [int(width * factor + 1e-6) for width in values['channels']]}

    return next((n for n, known in settings.items() if comparable(known, width_factor) == comparable(arch, 1.0)), None)


def _call(config: Mapping[str, Any]) -> str:
    return f'dict({", ".join(f"{key}={value!r}" for key, value in config.items())})'
