"""Rules for values read from a file: small functions that are put together, and one message for whatever breaks one.

A rule takes a value and its path, as ``message_hub.log_scalars.loss``, and raises ``MismatchError``.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..utils.errors import CheckpointError

Rule = Callable[[Any, str], None]


class MismatchError(Exception):
    """A value breaks a rule; the message names its path, what it must be and what it is."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(f'{path} must be {expected}, but is {found}')


def check(value: object, rule: Rule, path: str, source: str) -> None:
    """Hold a value of a checkpoint to a rule.

    Args:
        value: To be checked.
        rule: Of this module, or made of those.
        path: The value's place in the checkpoint, for the message; '' is the checkpoint itself.
        source: The checkpoint's name, for the message.

    Raises:
        CheckpointError: Naming the first value that breaks the rule.
    """
    try:
        rule(value, path)
    except MismatchError as error:
        raise CheckpointError(f'checkpoint {source} is damaged or was changed: {error}') from error


def describe(value: object) -> str:
    """Name a value in a few words."""
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim:
        return f'a {type(value).__name__} of {value.dtype} with shape {tuple(value.shape)}'
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic, Tensor)):
        text = repr(value)
        return text if len(text) <= 60 else f'{text[:57]}...'
    return f'a {type(value).__name__}'


def anything(value: object, path: str) -> None:
    """Allow every value."""


def instance(kind: type | tuple[type, ...], expected: str) -> Rule:
    """Demand a type."""

    def rule(value: object, path: str) -> None:
        if not isinstance(value, kind):
            raise MismatchError(path, expected, describe(value))

    return rule


def text(value: object, path: str) -> None:
    """Demand a string."""
    instance(str, 'a string')(value, path)


def truth(value: object, path: str) -> None:
    """Demand True or False."""
    instance((bool, np.bool_), 'True or False')(value, path)


def number(low: float = -math.inf, high: float = math.inf, whole: bool = False) -> Rule:
    """Demand a finite number, or a tensor of one, between two bounds that are included."""
    bounds = [f'at least {low}'] * (low > -math.inf) + [f'at most {high}'] * (high < math.inf)
    expected = ' '.join(['an integer' if whole else 'a finite number', ' and '.join(bounds)]).strip()
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)

    def rule(value: object, path: str) -> None:
        plain = value.item() if isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta else value
        right = isinstance(plain, kinds) and not isinstance(plain, bool)
        if not right or not math.isfinite(plain) or not low <= plain <= high:  # type: ignore[arg-type, operator]
            raise MismatchError(path, expected, describe(value))

    return rule


def optional(rule: Rule) -> Rule:
    """Allow None beside what a rule allows."""

    def rule_or_none(value: object, path: str) -> None:
        if value is not None:
            rule(value, path)

    return rule_or_none


def sequence(item: Rule, length: int | None = None) -> Rule:
    """Demand a list or tuple of such items."""

    def rule(value: Any, path: str) -> None:
        if not isinstance(value, (list, tuple)) or length not in (None, len(value)):
            raise MismatchError(path, 'a list' if length is None else f'a list of {length}', describe(value))
        for i, part in enumerate(value):
            item(part, f'{path}[{i}]')

    return rule


def mapping(values: Rule, keys: type | tuple[type, ...] = str) -> Rule:
    """Demand a dictionary whose keys have a type and whose values follow a rule."""

    def rule(value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise MismatchError(path, 'a dictionary', describe(value))
        for key, entry in value.items():
            if not isinstance(key, keys) or not str(key).isprintable():  # messages name it
                raise MismatchError(f'a key of {path or "it"}', 'a printable name', describe(key))
            values(entry, f'{path}.{key}'.lstrip('.'))

    return rule


def record(required: Mapping[str, Rule], others: Mapping[str, Rule] | None = None, rest: Rule = anything) -> Rule:
    """Demand a dictionary with known entries.

    Args:
        required: Rules of the entries that must be there.
        others: Rules of those that may be there. A name that ends in ``*`` stands for all that start so.
        rest: Rule of all other entries.
    """
    named = {**required, **(others or {})}
    starts = {name[:-1]: rule for name, rule in named.items() if name.endswith('*')}

    def entry(value: object, path: str, name: str) -> None:
        by_start = (rule for start, rule in starts.items() if name.startswith(start))
        (named.get(name) or next(by_start, rest))(value, path)

    def rule(value: Any, path: str) -> None:
        mapping(anything)(value, path)
        absent = [name for name in required if name not in value]
        if absent:
            raise MismatchError(path or 'it', f'a dictionary with {_list(required)}', f'one without {_list(absent)}')
        for name, part in value.items():
            entry(part, f'{path}.{name}'.lstrip('.'), name)

    return rule


def tensor(dtype: torch.dtype | None = None, shape: tuple[int, ...] | None = None) -> Rule:
    """Demand a dense tensor, of a type and a shape where those are given."""
    details = ([f'of {dtype}'] if dtype else []) + ([f'with shape {shape}'] if shape is not None else [])
    expected = ' '.join(['a dense tensor', *details])

    def rule(value: object, path: str) -> None:
        dense = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
        if not dense or dtype not in (None, value.dtype) or shape not in (None, tuple(value.shape)):  # type: ignore
            raise MismatchError(path, expected, describe(value))

    return rule


def _list(names: Iterable[str]) -> str:
    return ', '.join(names)
