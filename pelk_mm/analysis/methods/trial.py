"""One trial: build the model of a config, train it by one batch, predict with it."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from .children import Note, set_seeds
from .configs import configs_folder, read_config, walk
from .samples import is_self_supervised, testing_batch, training_batch
from .swap import find_backbones, replace_backbones, swapped_in


class NothingToTryError(Exception):
    """The config has no model, or its model no backbone."""


def train_and_predict(
    note: Note, config: Path, toolbox: str, size: int, backbone: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """Train a config's model by one made-up batch without a step, then predict in evaluation mode.

    Args:
        note: Told each step.
        config: Of the method.
        toolbox: That ships it.
        size: Pixels a side of the images.
        backbone: Takes the place of the original one; None for that one.

    Returns:
        How many parameters had no gradient: ``unused`` outside the new backbone, ``unused_in_backbone``.

    Raises:
        NothingToTryError: As :func:`read_model`.
        FloatingPointError: The loss is not finite.
        Whatever the model raises.
    """
    note('read')
    cfg = read_model(config, toolbox, size, backbone)
    note('build')
    model = build(cfg)
    note('loss')
    loss = loss_of(model, training_batch(model, cfg, size))
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f'the loss is {loss.item()}')
    note('backward')
    loss.backward()
    unused = {
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    }
    inside = swapped_in(model) if backbone is not None else None
    ours = set() if inside is None else {id(parameter) for parameter in inside.parameters()}
    in_backbone = sum(id(parameter) in ours for name, parameter in model.named_parameters() if name in unused)
    note('predict')
    model.eval()
    predict(model, testing_batch(model, cfg, size))
    return {'unused': len(unused) - in_backbone, 'unused_in_backbone': in_backbone}


def read_model(config: Path, toolbox: str, size: int, backbone: Mapping[str, Any] | None = None) -> Config:
    """Read a config, set the size of its images, and put another backbone in.

    The process's folder becomes the one from which paths in configs count, and the toolbox its default scope.

    Raises:
        NothingToTryError: It defines no model, or its model has no backbone.
    """
    os.chdir(configs_folder(toolbox))
    MMLogger.get_instance('methods', log_level='CRITICAL')
    cfg = read_config(config)
    if cfg is None:
        raise NothingToTryError('the config defines no model')
    init_default_scope(cfg.get('default_scope') or toolbox)
    for node in walk(cfg.model):
        if 'bgr_to_rgb' in node and node.get('size') is not None:  # mmseg pads to it
            node['size'] = (size, size)
    if 'prototype' in cfg.model:  # a retriever's data base is its images by default
        cfg.model.prototype = torch.rand(cfg.model.head.num_classes, cfg.model.head.in_channels)
    if not find_backbones(cfg.model):
        raise NothingToTryError('its model has no backbone')
    if backbone is not None:
        cfg.model = replace_backbones(cfg.model, backbone)[0]
    return cfg


def build(cfg: Config) -> Any:
    """The model of a config, initialised, for one process and in training mode."""
    set_seeds(0)
    model: Any = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    hub = MessageHub.get_current_instance()  # what hooks would have told some heads by the first iteration
    for name, value in {'iter': 0, 'epoch': 0, 'max_iters': 1000, 'max_epochs': 10}.items():
        hub.update_info(name, value)
    set_seeds(0)
    model.train()  # some return nothing
    return model


def loss_of(model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
    """The sum of a model's losses, as its ``train_step`` computes it."""
    data = model.data_preprocessor(copy.deepcopy(dict(batch)), True)
    return model.parse_losses(model._run_forward(data, mode='loss'))[0]


@torch.no_grad()
def predict(model: nn.Module, batch: Mapping[str, Any]) -> Any:
    """Predict, or give the features of a self-supervised method."""
    if is_self_supervised(model):
        return model.extract_feat(batch['inputs'])  # type: ignore[operator]
    return model.test_step(copy.deepcopy(dict(batch)))  # type: ignore[operator]
