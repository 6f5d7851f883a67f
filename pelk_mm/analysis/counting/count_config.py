"""Counting the model of a config: the work of ``tools/analysis_tools/get_flops.py``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ...checkpoints.deploy import can_be_deployed, switch_to_deploy
from ...utils.errors import ConfigError, naming
from .complexity import Complexity, count_complexity
from .tensor_forward import kind_of
from .weightless import build_weightless


def count_config(cfg: Config, shape: Sequence[int], sparsity: float | None = None, deploy: bool = False) -> Complexity:
    """Count the model of a config on one image, without the memory of its weights or of its feature maps.

    Args:
        cfg: The config; its data sets and checkpoints are not looked at.
        shape: (H, W).
        sparsity: As for :func:`~pelk_mm.analysis.counting.complexity.count_complexity`.
        deploy: Count the deployed form, branches and norms merged.

    Raises:
        ConfigError: A flag is out of its range, the model cannot be built, is of no known kind, has nothing to deploy,
            or does not take such an image.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ConfigError(f'--shape must be two positive numbers, height and width, but got {tuple(shape)}')
    if sparsity is not None and not 0 <= sparsity < 1:
        raise ConfigError(f'--sparsity must be in [0, 1), but got {sparsity}')
    if sparsity is not None and deploy:
        raise ConfigError('--sparsity counts the form that is trained, and --deploy another: pass one of them')
    model = build_counted(cfg)
    if kind_of(model) is None:
        raise ConfigError(
            f'the model of {_name(cfg)} must be a classifier (mmpretrain), segmentor (mmseg) or detector (mmdet), '
            f'but it is a {type(model).__name__}'
        )
    if deploy:
        if not can_be_deployed(model):
            raise ConfigError(f'--deploy: the model of {_name(cfg)} has no module with switch_to_deploy()')
        switch_to_deploy(model)
    try:
        return count_complexity(model, shape, sparsity)
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError, AssertionError) as error:
        reason = str(error).strip().split('\n')[0] or type(error).__name__
        raise ConfigError(
            f'cannot count the model of {_name(cfg)} on an image of {shape[0]}x{shape[1]} (H x W): {reason}'
        ) from error


def build_counted(cfg: Config) -> nn.Module:
    """The model of a config on the meta device, SyncBN replaced, in evaluation mode.

    Raises:
        ConfigError: If it cannot be built.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model_cfg = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    with naming(f'the model of {_name(cfg)}'):
        model = build_weightless(lambda: cast(nn.Module, MODELS.build(model_cfg)))
        return cast(nn.Module, revert_sync_batchnorm(model)).eval()


def _name(cfg: Config) -> str:
    return cfg.filename or 'this config'
