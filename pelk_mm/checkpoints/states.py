"""The states that pickled objects are given after they were made, by type: nothing else has one in a checkpoint."""

import pickle
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

from .vocabulary import array_bytes, check_values, demand


def give_state(target: object, state: Any) -> None:
    """Give an object the state that a file holds for it.

    Raises:
        pickle.UnpicklingError: It is not a state of such an object.
    """
    for kind, build in _BUILDERS:
        if isinstance(target, kind):
            build(target, state)
            return
    raise pickle.UnpicklingError(f'a {type(target).__name__} has a state, which those of checkpoints have not')


def _build_ordered_dict(target: OrderedDict, state: Any) -> None:
    demand(type(state) is dict and set(state) <= {'_metadata'}, 'an OrderedDict has other attributes than _metadata')
    vars(target).update(state)


def _build_array(target: np.ndarray, state: Any) -> None:
    demand(type(state) is tuple and len(state) == 5, 'an array is malformed')
    version, shape, dtype, by_columns, data = state
    demand(version == 1 and isinstance(dtype, np.dtype) and type(by_columns) is bool, 'an array is malformed')
    demand(type(data) is bytes and len(data) == array_bytes(dtype, shape), 'an array does not fit its shape')
    target.__setstate__(state)  # type: ignore[attr-defined]
    check_values(target)


def _build_dtype(target: np.dtype, state: Any) -> None:
    """Demand this machine's byte order. What else the state holds follows from the type's code."""
    orders = ('|', '=', '<' if sys.byteorder == 'little' else '>')
    demand(type(state) is tuple and len(state) == 8 and state[1] in orders, 'an array has another byte order')


def _build_history(target: HistoryBuffer, state: Any) -> None:
    fields = ('max_length', '_log_history', '_count_history')
    demand(
        type(state) is dict and set(state) <= {*fields, 'statistics_methods'}, 'a HistoryBuffer has other attributes'
    )
    # The statistics are mmengine's own, which every HistoryBuffer has.
    vars(target).update({name: state.get(name) for name in fields})


def _build_namespace(target: Namespace, state: Any) -> None:
    demand(
        type(state) is dict and all(type(name) is str for name in state), 'a Namespace has attributes without a name'
    )
    vars(target).update(state)


_BUILDERS: tuple[tuple[type, Callable[[Any, Any], None]], ...] = (
    (OrderedDict, _build_ordered_dict),
    (np.ndarray, _build_array),
    (np.dtype, _build_dtype),
    (HistoryBuffer, _build_history),
    (Namespace, _build_namespace),
)
