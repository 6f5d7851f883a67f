"""Checks of arguments, whose messages name the argument, the value it had and what would be right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

#: The side of a kernel of 4 TiB in float32. Tables and tuples of its length still take no time.
LARGEST_KERNEL = 2**20 - 1


def check_int(name: str, value: object, minimum: int | None = None, maximum: int | None = None) -> None:
    """Raise TypeError unless ``value`` is an int (no bool), ValueError unless it lies in the range given.

    A size that torch.export leaves open counts as an int; one that torch.jit.trace records is not looked at.
    """
    if _is_recorded(value):
        return
    if isinstance(value, bool) or not isinstance(value, Integral | torch.SymInt):
        raise TypeError(f'{name} must be an int, but got {value!r}')
    _check_range(name, value, minimum, maximum)  # type: ignore[arg-type]


def check_number(name: str, value: object, minimum: float | None = None, maximum: float | None = None) -> None:
    """Raise TypeError unless ``value`` is a finite number (no bool), ValueError unless it lies in the range given."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise TypeError(f'{name} must be a finite number, but got {value!r}')
    _check_range(name, value, minimum, maximum)  # type: ignore[arg-type]


def check_flag(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f'{name} must be True or False, but got {value!r}')


def check_sequence(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a list or another sequence that is no string."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f'{name} must be a sequence, but got {value!r}')


def check_odd(name: str, value: object) -> None:
    """Raise unless ``value`` is a positive odd int: a centred kernel has no other size. No memory holds huge ones."""
    if _is_recorded(value):
        return
    check_int(name, value)
    if value < 1 or value % 2 == 0:  # type: ignore[operator]
        raise ValueError(f'{name} must be odd and positive, but got {value}')
    if value > LARGEST_KERNEL:  # type: ignore[operator]
        size = 4 * value**2 / 2**40  # type: ignore[operator]
        raise ValueError(
            f'{name} must be at most {LARGEST_KERNEL}, but got {value}: one such kernel would take {size:.3g} TiB'
        )


def _is_recorded(value: object) -> bool:
    """Whether ``value`` is a size under torch.jit.trace, where sizes are tensors."""
    return torch.jit.is_tracing() and isinstance(value, Tensor)


def _check_range(name: str, value: float, minimum: float | None, maximum: float | None) -> None:
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        span = f'in {minimum}..{maximum}' if maximum is not None else f'at least {minimum}'
        raise ValueError(f'{name} must be {span}, but got {value}')
