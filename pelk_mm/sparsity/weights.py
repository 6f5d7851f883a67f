"""Which weights of a model a sparsity mask may cover, and which of them a checkpoint left pruned."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..utils.checks import check_sequence
from ..utils.errors import ConfigError
from .units import GRANULARITIES, Filters, Units


def maskable_weights(
    model: nn.Module, include: Sequence[str] | None = None, units: Units = GRANULARITIES['element']
) -> dict[str, nn.Parameter]:
    """Find the weights of convolutions, linears and token mixers, or those of mixers that have filters to mask.

    A module says itself which of its own parameters may be pruned: ``maskable_parameters``, a sequence of names. Every
    mixer of this package has it. A convolution or linear that does not say so offers its ``weight``. So norms, biases,
    layer scale, embeddings and the positional embedding h are never found. Filters are masked only where a module has
    ``filter_parameters``: names of parameters of shape (paths, ..., N, N).

    Args:
        model: Any module, not wrapped.
        include: Regular expressions; only weights whose name one of them matches (``re.search``). None for all.
        units: What is to be masked.

    Returns:
        Parameters by name, in the model's order; a shared one once, under its first name.

    Raises:
        ConfigError: The model has no such weight, an expression matches none, or filters have no such shape.
    """
    filters = isinstance(units, Filters)
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        plain = ('weight',) if isinstance(module, _ConvNd | nn.Linear) and not filters else ()
        for name in getattr(module, units.attribute, plain):
            weight = getattr(module, name)
            if id(weight) not in seen:
                seen.add(id(weight))
                found[f'{prefix}.{name}'.lstrip('.')] = weight
    if not found:
        what = (
            "token mixer with filters to mask (ShiftwiseConv has them): use granularity='element'"
            if filters
            else 'convolution, linear or token mixer whose weights to mask'
        )
        raise ConfigError(f'{type(model).__name__} has no {what}')
    flat = [name for name, weight in found.items() if filters and weight.ndim < 3]
    if flat:
        raise ConfigError(
            f'{units.attribute} must name parameters of shape (paths, ..., N, N), '
            f'but {flat[0]} is {tuple(found[flat[0]].shape)}'
        )
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


def checked_patterns(include: Sequence[str]) -> list[str]:
    """Give the expressions of ``include`` as a list.

    Raises:
        TypeError, ValueError: It is no sequence, is empty, or holds something else than regular expressions.
    """
    check_sequence('include', include)
    if not include:
        raise ValueError('include must name at least one regular expression, or be None for all weights, but got []')
    for pattern in include:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(f'include must hold regular expressions, but got {pattern!r} ({error})') from error
    return list(include)


@torch.no_grad()
def masks_from_zeros(
    weights: Mapping[str, Tensor], dense_above: float, units: Units = GRANULARITIES['element']
) -> dict[str, Tensor]:
    """Read masks from weights, or filters, that are exactly zero.

    A random initialisation holds next to no exact zeros, and some layers start as nothing else; neither is a mask. So
    a layer counts as pruned if fewer than ``dense_above`` of its weights, but at least one, differ from zero.

    Returns:
        For each pruned layer its mask, bool, on the weight's device.
    """
    masks = {name: units.nonzero(weight) for name, weight in weights.items()}
    return {name: mask for name, mask in masks.items() if 0 < int(mask.sum()) < dense_above * mask.numel()}
