"""Whether the checkpoints that a model's backbones start from are checkpoints of such backbones."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from ..models import LargeKernelBackbone
from ..utils.errors import CheckpointError, first_names
from .walk import pretrained_files

#: What a classifier's checkpoint may lack: the norms of further outputs, and counts that no output depends on.
_OPTIONAL = re.compile(r'norm\d+\..*|.*num_batches_tracked')


def check_pretrained(model: nn.Module, shapes: Mapping[str, Mapping[str, torch.Size]]) -> None:
    """See that every backbone of this package gets all of its weights from the ``init_cfg`` that fills it.

    mmengine loads what fits and goes on with the rest at random. The families of this package share many names and
    shapes: one would start from another's linears, with random kernels between them.

    Args:
        model: Built, not yet initialised; possibly inside a wrapper.
        shapes: What files hold, as :func:`.files.check_checkpoints` returns it; others are not looked at.

    Raises:
        CheckpointError: Weights are missing or of another shape; the first ones are named.
    """
    for module in model.modules():
        for path, start in pretrained_files(getattr(module, 'init_cfg', None)):
            if path not in shapes:
                continue
            held = {key.removeprefix(start): shape for key, shape in shapes[path].items() if key.startswith(start)}
            for name, backbone in module.named_modules():
                if isinstance(backbone, LargeKernelBackbone):
                    _check_backbone(backbone, f'{name}.'.lstrip('.'), held, path)


def _check_backbone(backbone: nn.Module, prefix: str, held: Mapping[str, torch.Size], path: str) -> None:
    needed = {f'{prefix}{key}': value for key, value in backbone.state_dict().items() if not _OPTIONAL.fullmatch(key)}
    missing = [key for key in needed if key not in held]
    mismatched = [key for key, value in needed.items() if key in held and held[key] != value.shape]
    if missing or mismatched:
        findings = {'missing': missing, 'of another shape': mismatched}
        text = '; '.join(f'{what}: {first_names(keys)}' for what, keys in findings.items() if keys)
        raise CheckpointError(
            f'checkpoint {path} (init_cfg) does not fit {type(backbone).__name__}: '
            f'{len(needed) - len(missing) - len(mismatched)} of {len(needed)} keys match ({text}). Is it a checkpoint '
            'of another network or variant? load_from starts from the part that fits'
        )
