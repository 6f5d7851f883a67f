"""A model and its test pipeline from a config and a checkpoint, without a runner."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, init_default_scope
from torch import nn

from ..checkpoints.deploy import can_be_deployed, is_deployed, switch_to_deploy
from ..checkpoints.loading import load_weights
from ..checkpoints.reading import read_checkpoint, safe_loading
from ..preflight.walk import innermost
from ..utils.devices import find_device, gpu_count, is_present
from ..utils.errors import ConfigError, naming


def load_model(cfg: Config, checkpoint: str, device: str | None, deploy: bool, trust: bool = False) -> nn.Module:
    """Build the model of a config in evaluation mode with the weights of a checkpoint.

    Args:
        cfg: The config.
        checkpoint: Path of a checkpoint; a deployed one switches the model before loading.
        device: Where the model shall be; the first GPU by default, where there is one.
        deploy: Switch to the deployed form.
        trust: Unpickle without restriction.

    Returns:
        The model; its ``dataset_meta`` holds 'classes' and 'palette' where they are known.

    Raises:
        ConfigError: If the model cannot be built, the device does not exist, or it cannot be deployed.
        CheckpointError: If the checkpoint does not fit.
    """
    device = device or ('cuda:0' if torch.cuda.is_available() else 'cpu')
    check_device_flag(device)
    state = read_checkpoint(checkpoint, trust=trust)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model_cfg = cfg.model
    if cfg.get('data_preprocessor') is not None:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    with safe_loading(trust), naming(f'the model of {cfg.filename}'):
        model = revert_sync_batchnorm(MODELS.build(model_cfg))
    if deploy and not can_be_deployed(model):
        raise ConfigError(f'--deploy: the model of {cfg.filename} has no module with switch_to_deploy()')
    if is_deployed(state):
        switch_to_deploy(model)
    load_weights(model, state, checkpoint, demand_all=True)
    if deploy:
        switch_to_deploy(model)
    model.dataset_meta = _dataset_meta(cfg, state)  # type: ignore[assignment]
    return model.to(device).eval()


def build_test_pipeline(cfg: Config) -> Compose:
    """Build the pipeline of the test data without what reads annotations."""
    steps = cfg.get('test_pipeline') or _test_dataset(cfg).get('pipeline')
    if not steps:
        raise ConfigError(f'config {cfg.filename} has neither test_pipeline nor a test_dataloader with a pipeline')
    with naming('the test pipeline'):
        steps = [step for step in steps if 'Annotation' not in str(step['type'])]
        return Compose([TRANSFORMS.build(step) for step in steps])


def check_device_flag(name: str) -> None:
    """Raise ConfigError unless ``name``, the value of ``--device``, is a device that is there."""
    device = find_device(name)
    if device is None:
        raise ConfigError(f'--device {name!r} is not a device: expected cpu, cuda or cuda:N')
    if not is_present(device):
        raise ConfigError(f'--device {name}: PyTorch sees {gpu_count()} GPU(s) on this machine')


def _dataset_meta(cfg: Config, checkpoint: dict) -> dict[str, Any]:
    """Names and colours of the classes: as trained, else as the test data set of the config states them."""
    meta = dict((checkpoint.get('meta') or {}).get('dataset_meta') or {})
    dataset = _test_dataset(cfg)
    with naming('the test data set'):
        known = dict(getattr(DATASETS.get(dataset['type']), 'METAINFO', {})) if 'type' in dataset else {}
    known.update(dataset.get('metainfo') or {})
    for name in ('classes', 'palette'):
        if not meta.get(name) and known.get(name):
            meta[name] = known[name]
    return meta


def _test_dataset(cfg: Config) -> Mapping:
    return innermost(cfg.get('test_dataloader') or cfg.get('val_dataloader') or {})
