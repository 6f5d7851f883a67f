"""The work of ``tools/model_converters/reparameterize_model.py``: a checkpoint in its deployed form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..apis.load_model import load_model
from ..checkpoints.deploy import DEPLOY_KEY, is_deployed, switch_to_deploy
from ..checkpoints.reading import read_checkpoint
from ..engine.config import load_config
from ..utils.errors import CheckpointError, ConfigError
from ..utils.files import claim_file, save_atomic

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        switched: Names of the modules switched.
        difference: Largest difference between the backbone's outputs before and after.
        scale: Largest absolute output before.
        parameters: Number of parameters before and after.
    """

    switched: list[str]
    difference: float
    scale: float
    parameters: tuple[int, int]


def reparameterize(
    config: str,
    checkpoint: str,
    out: str,
    overwrite: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    trust_checkpoint: bool = False,
) -> Conversion:
    """Write a checkpoint in its deployed form: ``{'meta', 'state_dict'}`` with ``meta['deploy'] = True``.

    Outputs of the backbone on one random 224 x 224 image are compared before anything is written.

    Args:
        config: The config that the checkpoint was trained with: classifier, segmentor or detector.
        checkpoint: Path of the checkpoint; every key of the model must be in it.
        out: Where to write.
        overwrite: Replace ``out`` if it exists.
        cfg_options: Dotted names and values merged into the config.
        trust_checkpoint: Unpickle the checkpoint without restriction.

    Raises:
        OutputError: If ``out`` exists, or is the checkpoint itself.
        CheckpointError: If the checkpoint does not fit or is deployed already, or if the outputs do not agree.
        ConfigError: If the model has nothing to merge.
        SaveError: If ``out`` cannot be written.
    """
    target = claim_file(out, overwrite, [checkpoint])
    state = read_checkpoint(checkpoint, trust=trust_checkpoint)
    if is_deployed(state):
        raise CheckpointError(f'checkpoint {checkpoint} is in its deployed form already')
    cfg = load_config(config, cfg_options)
    model = load_model(cfg, checkpoint, 'cpu', deploy=False, trust=trust_checkpoint)
    backbone = getattr(model, 'backbone', model)
    image = torch.randn(1, _in_channels(backbone), 224, 224, generator=torch.Generator().manual_seed(0))
    size = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        before = _tensors(backbone(image))
        switched = switch_to_deploy(model)
        if not switched:
            raise ConfigError(f'the model of {config} has no module with switch_to_deploy(): nothing to merge')
        after = _tensors(backbone(image))
    scale = max(float(x.abs().max()) for x in before)
    difference = max(float((x - y).abs().max()) for x, y in zip(before, after, strict=True))
    if not difference <= TOLERANCE * max(scale, 1.0):  # also true for NaN
        raise CheckpointError(
            f'the deployed model of {checkpoint} differs from the original by {difference:.2e} at outputs up to '
            f'{scale:.2e}: nothing was written'
        )
    meta = {**(state.get('meta') or {}), DEPLOY_KEY: True}
    save_atomic(target, {'meta': meta, 'state_dict': model.state_dict()})
    return Conversion(switched, difference, scale, (size, sum(p.numel() for p in model.parameters())))


def _in_channels(backbone: nn.Module) -> int:
    weight = next((p for p in backbone.parameters() if p.dim() == 4), None)
    return 3 if weight is None else weight.shape[1]


def _tensors(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for output in outputs for tensor in _tensors(output)]
