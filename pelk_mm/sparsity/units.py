"""What one element of a sparsity mask stands for: a single weight, or a whole filter of a re-parameterised mixer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .rules import grow, local_generator, prune, random_mask


class Elements:
    """A mask has the shape of its weight: single weights are dropped (SLaK, PeLK)."""

    #: Attribute by which a module names its parameters that may be masked so.
    attribute = 'maskable_parameters'

    def shape(self, weight_shape: Sequence[int]) -> list[int]:
        """Shape of the mask of such a weight."""
        return list(weight_shape)

    def scores(self, scores: Tensor) -> Tensor:
        """Turn scores of single weights into those of the mask's elements."""
        return scores

    def nonzero(self, weight: Tensor) -> Tensor:
        """Mask of all that is not exactly zero."""
        return weight != 0

    def draw(self, weight_shape: Sequence[int], keep: int, seed: int, name: str) -> Tensor:
        """Draw the first mask on the CPU, with ``keep`` elements kept but at least one.

        A layer without any weight could never take one up again.
        """
        return random_mask(self.shape(weight_shape), max(keep, 1), local_generator(seed, 0, name))

    def move(self, weight: Tensor, mask: Tensor, rate: float, seed: int, step: int, name: str) -> tuple[Tensor, Tensor]:
        """Drop the ``ceil(rate * kept)`` smallest and take up as many at random.

        Args:
            weight, mask: Of one layer; not changed.
            rate: In [0, 1].
            seed, step, name: Decide the draw.

        Returns:
            The mask after pruning, and the one after growth. What only the second keeps starts from zero.
        """
        return _move(weight.abs(), mask, rate, local_generator(seed, step, name))


class Filters:
    """Weights are (paths, ..., N, N), and a mask of (paths, ..., 1, 1) drops N x N filters.

    The rule of ShiftwiseConv's authors (arXiv 2401.12736), whose paths are parallel convolutions that are summed; what
    is ours instead is decision D6 of ``docs/paper/sparse_training.md``.
    """

    attribute = 'filter_parameters'

    def shape(self, weight_shape: Sequence[int]) -> list[int]:
        """Shape of the mask of such a weight."""
        return [*weight_shape[:-2], 1, 1]

    def scores(self, scores: Tensor) -> Tensor:
        """Average scores of single weights over each filter."""
        return scores.mean((-2, -1), keepdim=True)

    def nonzero(self, weight: Tensor) -> Tensor:
        """Mask of the filters that are not zero throughout."""
        return (weight != 0).any(-1, keepdim=True).any(-2, keepdim=True)

    def draw(self, weight_shape: Sequence[int], keep: int, seed: int, name: str) -> Tensor:
        """Draw the first mask on the CPU: the same ``round(keep / paths)`` filters in all paths, but at least one."""
        paths, *rest = self.shape(weight_shape)
        path = random_mask(rest, max(round(keep / paths), 1), local_generator(seed, 0, name))
        return torch.stack([path] * paths)

    def move(self, weight: Tensor, mask: Tensor, rate: float, seed: int, step: int, name: str) -> tuple[Tensor, Tensor]:
        """In each path by itself drop the filters of smallest L1 norm; as :meth:`Elements.move` otherwise."""
        norms = _norms(weight)
        paths = [
            _move(norms[path], mask[path], rate, local_generator(seed, step, f'{name}/{path}'))
            for path in range(len(mask))
        ]
        pruned, moved = zip(*paths, strict=True)
        return torch.stack(pruned), torch.stack(moved)

    def synchronise(
        self, weight: Tensor, mask: Tensor, rate: float, seed: int, step: int, name: str
    ) -> tuple[Tensor, Tensor]:
        """Move the first path's mask, ranked by L1 norms summed over all paths, and give it to all of them.

        What another path keeps where the first does not is dropped there. Arguments and returned masks as for
        :meth:`move`.
        """
        pruned, moved = _move(_norms(weight).sum(0), mask[0], rate, local_generator(seed, step, name))
        return mask & pruned, moved.expand_as(mask).clone()


Units = Elements | Filters
#: By the name that the hook's argument ``granularity`` has for them.
GRANULARITIES: dict[str, Units] = {'element': Elements(), 'filter': Filters()}


def _norms(weight: Tensor) -> Tensor:
    """L1 norms of filters, in full precision."""
    return weight.abs().sum((-2, -1), keepdim=True, dtype=torch.promote_types(weight.dtype, torch.float32))


def _move(magnitude: Tensor, mask: Tensor, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    count = math.ceil(rate * int(mask.sum()))
    pruned = prune(magnitude, mask, count)
    return pruned, grow(pruned, count, generator)
