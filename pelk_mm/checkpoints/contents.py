"""What a checkpoint of mmengine and of this package holds, entry by entry, as far as a run relies on it."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer
from torch import Tensor, optim

from ..utils.errors import CheckpointError
from .schema import (
    MismatchError,
    Rule,
    anything,
    check,
    describe,
    instance,
    mapping,
    number,
    optional,
    record,
    sequence,
    tensor,
    text,
    truth,
)

# What optimizers keep for each element of a parameter.
_OF_THE_SHAPE = ('exp_avg', 'exp_avg_sq', 'exp_inf', 'max_exp_avg_sq', 'momentum_buffer', 'square_avg', 'sum')

count = number(0, whole=True)


def _state_dict(value: Any, path: str) -> None:
    """Tensors by name. Only what a module adds by ``get_extra_state`` may be something else."""
    mapping(anything)(value, path)
    for name, entry in value.items():
        if not name.endswith('_extra_state'):
            tensor()(entry, f'{path}.{name}')
    mapping(record({}, {'version': optional(count)}))(getattr(value, '_metadata', {}), f'{path}._metadata')


def _history(value: Any, path: str) -> None:
    """What a scalar was at each step: two arrays of one length."""
    instance(HistoryBuffer, 'a HistoryBuffer')(value, path)
    arrays = [vars(value).get(name) for name in ('_log_history', '_count_history')]
    right = all(isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype.kind in 'biuf' for array in arrays)
    if not right or len(arrays[0]) != len(arrays[1]):  # type: ignore[arg-type]
        raise MismatchError(path, 'a HistoryBuffer of two arrays of numbers of one length', describe(value))


def _finite(value: Any, path: str) -> None:
    """An option: text and truth values pass, numbers must be finite, also in a list."""
    if isinstance(value, (list, tuple)):
        sequence(_finite)(value, path)
    elif isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        number()(value, path)


def _one_or_by_name(one: Rule, is_one: str) -> Rule:
    """One, known by an entry that it has, or several by name."""

    def rule(value: Any, path: str) -> None:
        is_several = (
            isinstance(value, Mapping) and is_one not in value and all(isinstance(v, Mapping) for v in value.values())
        )
        (mapping(one) if is_several and value else one)(value, path)

    return rule


_PARAMETER_STATE = record({}, {'step': number(0), **{name: optional(tensor()) for name in _OF_THE_SHAPE}})
_GROUP = record({'params': sequence(count)}, {'lr': number(0), 'initial_lr': number(0)}, rest=_finite)
_OPTIMIZER = record({'state': mapping(_PARAMETER_STATE, (int, str)), 'param_groups': sequence(_GROUP)})
_SCHEDULER = record({}, {'last_step': number(-1, whole=True), '_global_step': count, '_last_value': sequence(number())})


def _schedulers(value: Any, path: str) -> None:
    rule = sequence(_SCHEDULER)
    (mapping(rule) if isinstance(value, Mapping) else rule)(value, path)


_RUNTIME_INFO = record(
    {},
    {
        'epoch': count,
        'iter': count,
        'max_epochs': optional(count),
        'max_iters': optional(count),
        'last_ckpt': optional(text),
        'best_ckpt*': optional(text),
        'keep_ckpt_ids': sequence(count),
    },
)
_MESSAGE_HUB = record(
    {'log_scalars': mapping(_history), 'runtime_info': _RUNTIME_INFO, 'resumed_keys': mapping(truth)},
)
_CHECKPOINT = record(
    {'state_dict': _state_dict},
    {
        'meta': record({}, {'epoch': count, 'iter': count}),
        'message_hub': _MESSAGE_HUB,
        'optimizer': _one_or_by_name(_OPTIMIZER, 'param_groups'),
        'param_schedulers': _schedulers,
        'ema_state_dict': _state_dict,
    },
)


def check_checkpoint(checkpoint: Mapping[str, Any], source: str) -> None:
    """Check the entries of a checkpoint that a run or a model is built from; other entries pass.

    Args:
        checkpoint: With its ``state_dict``.
        source: Its name, for the message.

    Raises:
        CheckpointError: Naming the first entry that is not what it must be.
    """
    check(checkpoint, _CHECKPOINT, '', source)


def check_optimizer_shapes(optimizers: Iterable[optim.Optimizer], names: Mapping[int, str], source: str) -> None:
    """Check the state of optimizers that was loaded from a checkpoint: PyTorch takes tensors of any shape.

    Args:
        optimizers: With their parameters and the state loaded.
        names: The parameters' names by ``id``.
        source: The checkpoint's name, for the message.

    Raises:
        CheckpointError: Naming the first tensor whose shape is not its parameter's.
    """
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for entry in _OF_THE_SHAPE:
                value = state.get(entry)
                if isinstance(value, Tensor) and value.shape != parameter.shape:
                    raise CheckpointError(
                        f'checkpoint {source} is damaged or was changed: {entry} of the optimizer has shape '
                        f'{tuple(value.shape)} for {names.get(id(parameter), "a parameter")} of shape '
                        f'{tuple(parameter.shape)}'
                    )
