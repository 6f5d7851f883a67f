"""Tables that translate one state dict's layout into another's, applied strictly."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# From a value and the shape it is to have, the value in the new layout.
Transform = Callable[[Tensor, torch.Size], Tensor]


@dataclass(frozen=True)
class Rule:
    """One line of a table: a key that ``pattern`` matches as a whole becomes ``name``, its value ``transform``'s.

    Attributes:
        pattern: Regular expression.
        name: As for ``re.Match.expand``.
        transform: What happens to the value; None for nothing.
        stack: Several keys may share ``name``: they are put together, in order, on a new first axis.
    """

    pattern: str
    name: str
    transform: Transform | None = None
    stack: bool = False


@dataclass
class Renamed:
    """What a rule found for one name.

    Attributes:
        rule: The rule.
        sources: Keys that it matched, in their numbers' order.
        values: Their values.
    """

    rule: Rule
    sources: list[str]
    values: list[Tensor]

    @property
    def shape(self) -> torch.Size:
        """Shape of the first value, before any transform."""
        return self.values[0].shape

    def value(self, shape: torch.Size) -> Tensor | None:
        """The value in the new layout, or None where it does not come to ``shape``."""
        try:
            shapes = shape[1:] if self.rule.stack else shape
            values = [v if self.rule.transform is None else self.rule.transform(v, shapes) for v in self.values]
            value = torch.stack(values) if self.rule.stack else values[0]
        except (RuntimeError, IndexError):
            return None
        return value if value.shape == shape else None


def rename(state: Mapping[str, Tensor], rules: Sequence[Rule]) -> tuple[dict[str, Renamed], list[str]]:
    """Apply to each key the first rule that matches it.

    Returns:
        What was found by new name, and the keys that no rule matches, or whose name is taken already.
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    found: dict[str, Renamed] = {}
    unused = []
    for key in sorted(state, key=_natural):
        match, rule = next(((m, rule) for pattern, rule in compiled if (m := pattern.fullmatch(key))), (None, None))
        if match is None or rule is None:
            unused.append(key)
            continue
        name = match.expand(rule.name)
        if name not in found:
            found[name] = Renamed(rule, [key], [state[key]])
        elif rule.stack and found[name].rule is rule:
            found[name].sources.append(key)
            found[name].values.append(state[key])
        else:
            unused.append(key)
    return found, unused


def guess_source(name: str, found: Mapping[str, Renamed]) -> str:
    """What the source would call the value that becomes ``name``, by what it calls one like it.

    One in another block or stage, or else one of the same layer; where there is none, it is said what ``name`` is here.
    """
    for other, entry in found.items():
        if _numbers(other)[0] == _numbers(name)[0]:
            old, new = _numbers(other)[1], _numbers(name)[1]
            form, there = _numbers(entry.sources[0])
            if there[: len(old)] == old:
                return form.format(*new, *there[len(old) :])
    layer, _, last = name.rpartition('.')
    for other, entry in found.items():
        other_layer, _, other_last = other.rpartition('.')
        if other_layer == layer and entry.sources[0].endswith(f'.{other_last}'):
            return f'{entry.sources[0].removesuffix(other_last)}{last}'
    return f'what is {name} here'


def fill(
    template: Mapping[str, Tensor], found: Mapping[str, Renamed], own: str
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Put what was found into the place, and the number format, of the template's values.

    Args:
        template: State dict of the network to fill.
        found: As :func:`rename` returns it.
        own: Regular expression of the names whose values the network keeps where the source has none. A BatchNorm's
            count of batches is always among them: it enters no output.

    Returns:
        The new state dict, and what is wrong with it, in the source's names: lists by kind, 'missing', 'of another
        shape' and 'unused'.
    """
    state: dict[str, Tensor] = {}
    missing, misshapen = [], []
    kept = re.compile(rf'(.*\.)?num_batches_tracked|{own}')
    for name, current in template.items():
        if name in found:
            value = found[name].value(current.shape)
            if value is None:
                sizes = f'{tuple(found[name].shape)} for {tuple(current.shape)}'
                misshapen.append(f'{", ".join(found[name].sources)} {sizes}')
                continue
        elif kept.fullmatch(name):
            value = current
        else:
            missing.append(guess_source(name, found))
            continue
        # a copy: a view would take the whole of its storage into the file
        state[name] = value.detach().to(current.dtype, copy=True).contiguous()
    unused = [source for name, entry in found.items() if name not in template for source in entry.sources]
    return state, {'missing': missing, 'of another shape': misshapen, 'unused': unused}


def flat(value: Tensor, shape: torch.Size) -> Tensor:
    """A vector stored with axes of length 1, (1, 1, 1, C) or (C, 1, 1, 1) to (C,)."""
    return value.reshape(-1) if value.numel() == max(value.shape, default=0) else value


def as_kernel(value: Tensor, shape: torch.Size) -> Tensor:
    """A table of relative positions, (C, K K), as a kernel (C, 1, K, K)."""
    return value.view(shape) if value.ndim == 2 and value.numel() == shape.numel() else value


def as_linear(value: Tensor, shape: torch.Size) -> Tensor:
    """A 1 x 1 convolution's weight, (D, C, 1, 1), as a linear layer's (D, C)."""
    return value.flatten(1) if value.shape[2:] == (1, 1) else value


def by_channel(value: Tensor, shape: torch.Size) -> Tensor:
    """A grouped convolution's weight, (C g, 1, N, N) with each channel's g outputs together, as (C, g, N, N)."""
    return value.squeeze(1).unflatten(0, (shape[0], -1)) if value.shape[1] == 1 else value


def _natural(key: str) -> list[tuple[int, int | str]]:
    """Sort key that takes numbers as numbers."""
    parts: Iterable[str] = re.split(r'(\d+)', key)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def _numbers(key: str) -> tuple[str, list[str]]:
    """A key with ``{}`` for its numbers, and those."""
    return re.sub(r'\d+', '{}', key), re.findall(r'\d+', key)
