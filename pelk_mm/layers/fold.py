"""Folding affine maps of channels into the layers beside them, for deployment."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


@torch.no_grad()
def fold_behind(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Fold y -> scale * y + shift into the layer that gives y, in place; it gets a bias where it has none.

    Args:
        layer: Holds ``weight``, (C_out, ...), and ``bias``, (C_out,) or None: a linear, a convolution.
        scale, shift: (C_out,), in float64.
    """
    weight, bias = cast(Tensor, layer.weight).double(), cast('Tensor | None', layer.bias)
    moved = shift if bias is None else shift + scale * bias.double()
    _replace(layer, weight * scale.view(-1, *[1] * (weight.ndim - 1)), moved)


@torch.no_grad()
def fold_before(layer: nn.Linear | nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """Fold x -> scale * x + shift into the layer that reads x, in place; it gets a bias where it has none.

    Args:
        layer: A linear, or a convolution without groups and padding.
        scale, shift: (C_in,), in float64.
    """
    weight, bias = layer.weight.double(), cast('Tensor | None', layer.bias)
    per_input = (1, -1, *[1] * (weight.ndim - 2))
    moved = (weight * shift.view(per_input)).flatten(1).sum(1)
    _replace(layer, weight * scale.view(per_input), moved if bias is None else moved + bias.double())


def _replace(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    old = cast(Tensor, layer.weight)
    layer.weight, layer.bias = (
        nn.Parameter(value.to(old.dtype), requires_grad=old.requires_grad) for value in (weight, bias)
    )
