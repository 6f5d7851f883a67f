"""Whether the checkpoints that a model's backbones start from are checkpoints of such backbones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import nn

from ..models import LargeKernelBackbone
from .checkpoint import read_checkpoint
from .errors import CheckpointError
from .sparsity_state import first_names

#: What a classifier's checkpoint may lack: the norms of further outputs, and counts that no output depends on.
_OPTIONAL = re.compile(r'norm\d+\..*|.*num_batches_tracked')


def check_pretrained(model: nn.Module, trust: bool = False) -> None:
    """See that every backbone of this package gets all of its weights from the ``init_cfg`` that fills it.

    mmengine loads what fits and goes on with the rest at random. The families of this package share many names and
    shapes: one would start from another's linears, with random kernels between them. Remote files are not looked at.

    Args:
        model: Built, not yet initialised; possibly inside a wrapper.
        trust: Unpickle without restriction.

    Raises:
        CheckpointError: Weights are missing or of another shape; the first ones are named.
    """
    for module in model.modules():
        for path, prefix in _pretrained(getattr(module, 'init_cfg', None)):
            state = {
                key.removeprefix('module.').removeprefix(prefix): value
                for key, value in read_checkpoint(path, trust=trust)['state_dict'].items()
                if key.removeprefix('module.').startswith(prefix)
            }
            for name, backbone in module.named_modules():
                if isinstance(backbone, LargeKernelBackbone):
                    _check_backbone(backbone, f'{name}.'.lstrip('.'), state, path)


def _check_backbone(backbone: nn.Module, prefix: str, state: Mapping, path: str) -> None:
    own = {f'{prefix}{key}': value for key, value in backbone.state_dict().items() if not _OPTIONAL.fullmatch(key)}
    missing = [key for key in own if key not in state]
    mismatched = [key for key, value in own.items() if key in state and state[key].shape != value.shape]
    if missing or mismatched:
        findings = {'missing': missing, 'of another shape': mismatched}
        text = '; '.join(f'{what}: {first_names(keys)}' for what, keys in findings.items() if keys)
        raise CheckpointError(
            f'checkpoint {path} (init_cfg) does not fit {type(backbone).__name__}: '
            f'{len(own) - len(missing) - len(mismatched)} of {len(own)} keys match ({text}). Is it a checkpoint of '
            'another network or variant? load_from starts from the part that fits'
        )


def _pretrained(init_cfg: object) -> Iterator[tuple[str, str]]:
    """(Local file, prefix with its dot) of an ``init_cfg`` of type Pretrained."""
    if isinstance(init_cfg, Mapping) and init_cfg.get('type') == 'Pretrained':
        path, prefix = init_cfg.get('checkpoint'), init_cfg.get('prefix')
        if isinstance(path, str) and '://' not in path:
            yield path, f'{prefix.rstrip(".")}.' if prefix else ''
