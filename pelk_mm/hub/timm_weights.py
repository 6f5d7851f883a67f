"""Checkpoints for timm models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

#: Norms of a backbone's outputs, which checkpoints of other tasks lack.
OUTPUT_NORMS = tuple(f'norm{i}.' for i in range(4))


def fit_state_dict(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A checkpoint's state dict in the names of a model, for timm's ``pretrained=True``.

    Args:
        state: Of a timm model of ours, of mmpretrain's ``ImageClassifier``, of a segmentor or detector; or of a bare
            backbone.
        model: The :class:`pelk_mm.hub.timm_model.TimmModel` to load it into.

    Raises:
        ValueError: It lacks tensors of the backbone, which would stay random: timm itself says so in no case where
            features or another number of classes are asked for.
    """
    backbone = cast(nn.Module, model.backbone)
    if not any(name.startswith('backbone.') for name in state):
        state = {f'backbone.{name}': tensor for name, tensor in state.items()}
    wanted = [f'backbone.{name}' for name in backbone.state_dict() if not name.startswith(OUTPUT_NORMS)]
    missing = [name for name in wanted if name not in state]
    if missing:
        raise ValueError(
            f'the checkpoint lacks {len(missing)} of the {len(wanted)} tensors of this {type(backbone).__name__}, '
            f'{missing[0]} among them: it is of another net, or of a deployed one'
        )
    return dict(state)
