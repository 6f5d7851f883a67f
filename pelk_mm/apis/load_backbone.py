"""The backbone of any config, alone: no neck, head or data preprocessor is built."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..checkpoints.deploy import is_deployed, switch_to_deploy
from ..checkpoints.loading import load_weights
from ..checkpoints.reading import read_checkpoint, safe_loading
from ..utils.errors import CheckpointError, ConfigError, naming
from .load_model import check_device_flag

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Normalisation:
    """How the data preprocessor of a config turns pixels (0 to 255) into the backbone's input.

    Args:
        mean, std: A value for each channel, in the order in which the backbone takes them.
        rgb: The backbone takes RGB; otherwise BGR.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    rgb: bool = True


def load_backbone(
    cfg: Config, checkpoint: str | None = None, device: str = 'cpu', *, trust: bool = False, seed: int = 0
) -> nn.Module:
    """Build the backbone of a classifier, segmentor or detector, in evaluation mode, its outputs left as maps.

    Args:
        cfg: A config whose ``model`` holds a ``backbone`` at any depth, or is one.
        checkpoint: Of the whole model or of the backbone alone; a deployed one switches the backbone first. None for
            the weights that training would start from, ``init_cfg`` of type ``Pretrained`` included.
        device: Where the backbone shall be.
        trust: Unpickle without restriction.
        seed: Of the initialisation where there is no checkpoint; the caller's generators are left as they were.

    Returns:
        The backbone; a ``gap_before_final_norm`` is switched off.

    Raises:
        ConfigError: It cannot be built, or the device is not there.
        CheckpointError: The checkpoint does not hold all of its weights.
    """
    check_device_flag(device)
    state = None if checkpoint is None else read_checkpoint(checkpoint, trust=trust)
    with (
        torch.random.fork_rng(),
        DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')),
        safe_loading(trust),
        naming(f'the backbone of {cfg.filename}'),
    ):
        torch.manual_seed(seed)
        backbone = revert_sync_batchnorm(MODELS.build(backbone_config(cfg)))
        if state is None and hasattr(backbone, 'init_weights'):
            with _quiet():  # mmengine logs two lines a parameter
                backbone.init_weights()
    if state is not None:
        assert checkpoint is not None
        if is_deployed(state):
            switch_to_deploy(backbone)
        load_weights(backbone, {'state_dict': backbone_state(state, checkpoint)}, checkpoint, demand_all=True)
    if hasattr(backbone, 'gap_before_final_norm'):
        backbone.gap_before_final_norm = False
    backbone.eval()  # apart: mmpretrain's ConvNeXt returns None
    return backbone.to(device)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def backbone_config(cfg: Config) -> dict[str, Any]:
    """The first ``backbone`` in ``cfg.model``, outermost first; ``cfg.model`` itself where it holds none."""
    pending: list[Mapping[str, Any]] = [cfg.model]
    while pending:
        node = pending.pop(0)
        if isinstance(node.get('backbone'), Mapping):
            return dict(node['backbone'])
        pending += [value for value in node.values() if isinstance(value, Mapping)]
    return dict(cfg.model)


def backbone_state(checkpoint: dict, source: str) -> dict[str, Any]:
    """The weights of a checkpoint that belong to its backbone, without prefix.

    Args:
        checkpoint: As :func:`read_checkpoint` returns it, of a whole model or of a backbone.
        source: The file's name, for messages.

    Raises:
        CheckpointError: Several parts of the model have a backbone.
    """
    state = {key.removeprefix('module.'): value for key, value in checkpoint['state_dict'].items()}
    prefixes = {key[: key.index('backbone.') + len('backbone.')] for key in state if 'backbone.' in key}
    if not prefixes:
        return state
    if len(prefixes) > 1:
        raise CheckpointError(f'checkpoint {source} holds several backbones: {", ".join(sorted(prefixes))}')
    prefix = prefixes.pop()
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def normalisation_of(cfg: Config) -> Normalisation:
    """Mean, standard deviation and channel order of a config's data preprocessor; ImageNet's where it states none.

    Raises:
        ConfigError: Mean and standard deviation are not three values each.
    """
    stated = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if not isinstance(stated, Mapping) or stated.get('mean') is None or stated.get('std') is None:
        return Normalisation()
    values = []
    for name in ('mean', 'std'):
        numbers = tuple(float(value) for value in cast(Any, stated[name]))
        if len(numbers) != 3:
            raise ConfigError(f'data_preprocessor.{name} of {cfg.filename} must have 3 values, got {numbers}')
        values.append(numbers)
    # The toolboxes read images as BGR, and turn them around where one of these says so.
    return Normalisation(values[0], values[1], bool(stated.get('to_rgb') or stated.get('bgr_to_rgb')))
