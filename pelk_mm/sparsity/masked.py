"""Weights, their averages and their masks together: what happens to them at a step."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from .units import GRANULARITIES, Filters, Units


class MaskedWeights:
    """The maskable weights of a model with the masks of those that are not dense.

    Args:
        weights: All maskable weights by name.
        averages: Weight averages of the model (``EMAHook``), by the same names; others are ignored.
        masks: bool tensors by name, on the device of their weight. The dict is kept and updated.
        units: What an element of a mask stands for.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        averages: Sequence[Mapping[str, Tensor]],
        masks: dict[str, Tensor],
        units: Units = GRANULARITIES['element'],
    ) -> None:
        self.weights, self.averages, self.masks, self.units = weights, averages, masks, units

    @torch.no_grad()
    def apply(self) -> None:
        """Set the dropped weights to zero, not their averages.

        By multiplication, which is several times faster than filling, and keeps NaN: a diverged run must look so.
        """
        for name, mask in self.masks.items():
            self.weights[name].mul_(mask)

    @torch.no_grad()
    def apply_to_all(self) -> None:
        """Set the dropped weights and their averages to zero. A mean of zeros stays zero until the next move."""
        for name, mask in self.masks.items():
            self._multiply(name, mask)

    @torch.no_grad()
    def move(self, rate: float, seed: int, step: int, synchronise: bool = False) -> None:
        """In each layer drop the ``ceil(rate * kept)`` smallest elements of the mask and take up as many at random.

        What is dropped is zero at once, in the averages too, and may be drawn again: then it starts anew from zero.

        Args:
            rate: p, in [0, 1].
            seed, step: Decide the draw, with the layer's name.
            synchronise: Make the paths of filter masks equal.
        """
        move = self.units.synchronise if synchronise and isinstance(self.units, Filters) else self.units.move
        for name, mask in self.masks.items():
            pruned, self.masks[name] = move(self.weights[name], mask, rate, seed, step, name)
            self._multiply(name, pruned)

    @torch.no_grad()
    def averages_take_up(self) -> None:
        """Give averages that are still zero the weight's value; due one step after a move.

        Otherwise they would climb from zero at the pace of the average, over thousands of steps.
        """
        for name, mask in self.masks.items():
            weight, *averages = self._copies(name)
            for average in averages:
                new = mask.to(average.device) & (average == 0)
                average.copy_(torch.where(new, weight.to(average.device), average))

    def density(self) -> dict[str, float]:
        """Share of kept weights of each maskable layer; 1.0 for the dense ones."""
        return {
            name: int(self.masks[name].sum()) / self.masks[name].numel() if name in self.masks else 1.0
            for name in self.weights
        }

    def total_density(self) -> float:
        """Share of kept weights over all maskable layers."""
        sizes = {name: weight.numel() for name, weight in self.weights.items()}
        return sum(density * sizes[name] for name, density in self.density().items()) / sum(sizes.values())

    def table(self) -> str:
        """One line for each maskable layer: density, name, shape."""
        return '\n'.join(
            f'  {density:7.4f}  {name} {tuple(self.weights[name].shape)}' for name, density in self.density().items()
        )

    def _copies(self, name: str) -> Iterator[Tensor]:
        """The weight itself, then its averages."""
        yield self.weights[name]
        yield from (average[name] for average in self.averages if name in average)

    def _multiply(self, name: str, mask: Tensor) -> None:
        for tensor in self._copies(name):
            tensor.mul_(mask.to(tensor.device))
