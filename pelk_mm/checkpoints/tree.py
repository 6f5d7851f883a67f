"""The check of the whole of what was unpickled: its types, its depth, its size, and truth values that are ones."""

from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn
from torch.storage import TypedStorage

from .limits import Budget
from .vocabulary import ForbiddenGlobalError, demand

DEEPEST = 64
MOST_VALUES = 10_000_000
_VISIT_COST = 512  # bytes
_CONTAINERS = (dict, OrderedDict, Counter, list, tuple, set, frozenset, Namespace)
_LEAVES = (type(None), bool, int, float, str, bytes, torch.Size, torch.device, torch.dtype, HistoryBuffer, TypedStorage)


def check_content(content: object, budget: Budget) -> None:
    """Check the whole of what was unpickled, now that nothing changes it any more.

    Containers may be shared, but not contain themselves or be nested deeper than ``DEEPEST``. Written out, they hold at
    most ``MOST_VALUES`` values. So whatever walks through them later comes to an end.

    Raises:
        pickle.UnpicklingError: Something is not as checkpoints hold it.
    """
    depth_and_values: dict[int, tuple[int, int]] = {}
    unfinished: set[int] = set()
    pending: list[tuple[object, bool]] = [([content], False)]
    while pending:
        value, finished = pending.pop()
        if finished:
            depth, count = 0, 1
            for child in _children(value):
                depth_below, count_below = depth_and_values.get(id(child), (0, 1))
                depth, count = max(depth, 1 + depth_below), count + count_below
            demand(depth <= DEEPEST, f'its content is nested deeper than {DEEPEST}')
            demand(count <= MOST_VALUES, f'its content has more than {MOST_VALUES} values')
            depth_and_values[id(value)] = (depth, count)
            unfinished.remove(id(value))
        elif id(value) not in depth_and_values:
            demand(id(value) not in unfinished, 'a container in it contains itself')
            budget.spend(_VISIT_COST)
            unfinished.add(id(value))
            pending.append((value, True))
            for child in _children(value):
                if type(child) in _CONTAINERS:
                    pending.append((child, False))
                else:
                    _check_leaf(child)


def _children(container: Any) -> Iterator[Any]:
    if isinstance(container, dict):
        return chain(container.values(), getattr(container, '__dict__', {}).values())
    return iter(vars(container).values() if isinstance(container, Namespace) else container)


def _check_leaf(value: Any) -> None:
    if type(value) in (Tensor, nn.Parameter):
        if value.dtype == torch.bool and value.numel() and not value.is_meta:
            demand(value.detach().view(torch.uint8).max() <= 1, 'a truth value is neither 0 nor 1')
    elif type(value) is HistoryBuffer:
        arrays = [vars(value).get(name) for name in ('_log_history', '_count_history')]
        demand(
            all(type(array) is np.ndarray and array.ndim == 1 and array.dtype.kind in 'biuf' for array in arrays)
            and len(arrays[0]) == len(arrays[1])
            and type(value.max_length) is int
            and value.max_length > 0,
            'a HistoryBuffer does not hold two arrays of one length',
        )
    elif type(value) not in _LEAVES and not isinstance(value, (np.generic, np.ndarray)):
        raise ForbiddenGlobalError(getattr(value, 'name', type(value).__name__))
