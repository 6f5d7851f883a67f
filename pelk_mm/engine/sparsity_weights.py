"""Which weights of a model a sparsity mask may cover, and which of them a checkpoint left pruned."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .errors import ConfigError


def maskable_weights(model: nn.Module, include: Sequence[str] | None = None) -> dict[str, nn.Parameter]:
    """Find the weights of convolutions, linears and token mixers.

    A module says itself which of its own parameters may be pruned: ``maskable_parameters``, a sequence of names. Every
    mixer of this package has it. A convolution or linear that does not say so offers its ``weight``. So norms, biases,
    layer scale, embeddings and the positional embedding h are never found.

    Args:
        model: Any module, not wrapped.
        include: Regular expressions; only weights whose name one of them matches (``re.search``). None for all.

    Returns:
        Parameters by name, in the model's order; a shared one once, under its first name.

    Raises:
        ConfigError: The model has no such weight, or an expression matches none.
    """
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        plain = ('weight',) if isinstance(module, _ConvNd | nn.Linear) else ()
        for name in getattr(module, 'maskable_parameters', plain):
            weight = getattr(module, name)
            if id(weight) not in seen:
                seen.add(id(weight))
                found[f'{prefix}.{name}'.lstrip('.')] = weight
    if not found:
        raise ConfigError(f'{type(model).__name__} has no convolution, linear or token mixer whose weights to mask')
    if include is None:
        return found
    for pattern in include:
        if not any(re.search(pattern, name) for name in found):
            names = ', '.join(list(found)[:3])
            raise ConfigError(
                f'include={pattern!r} of the sparsity hook matches none of the {len(found)} maskable weights of '
                f'{type(model).__name__} ({names}, ...)'
            )
    return {name: weight for name, weight in found.items() if any(re.search(pattern, name) for pattern in include)}


@torch.no_grad()
def masks_from_zeros(weights: Mapping[str, Tensor], dense_above: float) -> dict[str, Tensor]:
    """Read masks from weights that are exactly zero.

    A random initialisation holds next to no exact zeros, and some layers start as nothing else; neither is a mask. So
    a layer counts as pruned if fewer than ``dense_above`` of its weights, but at least one, differ from zero.

    Returns:
        For each pruned layer its mask, bool, on the weight's device.
    """
    masks = {name: weight != 0 for name, weight in weights.items()}
    return {name: mask for name, mask in masks.items() if 0 < int(mask.sum()) < dense_above * mask.numel()}
