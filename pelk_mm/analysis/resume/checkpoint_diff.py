"""Comparing two checkpoints bit by bit."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from ...checkpoints.reading import read_checkpoint

# Names, paths, clock times and times of files, which differ between any two runs.
_VOLATILE = re.compile(
    r'meta\.(time|cfg|config|experiment_name|run_state\.(files|settings\.config\.work_dir))$'
    r'|message_hub\.runtime_info\.(cfg|experiment_name|eta|last_ckpt|best_ckpt.*)$'
    r'|message_hub\.(log_scalars|resumed_keys)\.(train|val)/(.*/)?(data_)?time$'
)


def checkpoint_differences(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> tuple[list[str], int]:
    """Compare everything two checkpoint files hold but clock times, paths and the name of the run.

    Args:
        first: A checkpoint file.
        second: Another one.

    Returns:
        One line for each difference, and the number of tensors and other values that were compared.

    Raises:
        CheckpointError: If one of them cannot be read.
    """
    lines, compared = [], 0
    for line in differences(read_checkpoint(first), read_checkpoint(second)):
        compared += 1
        if line is not None:
            lines.append(line)
    return lines, compared


def differences(first: Any, second: Any, name: str = '') -> Iterator[str | None]:
    """Compare two values of a checkpoint; yield a line for each leaf that differs and None for each that does not.

    Tensors are equal if their types, shapes and bits are: -0.0 differs from 0.0, and NaN equals itself.
    """
    if _VOLATILE.match(name):
        return
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in [*first, *(key for key in second if key not in first)]:
            child = f'{name}.{key}' if name else str(key)
            if key in first and key in second:
                yield from differences(first[key], second[key], child)
            elif not _VOLATILE.match(child):
                yield f'{child}: only in the {"first" if key in first else "second"}'
    elif isinstance(first, HistoryBuffer) and isinstance(second, HistoryBuffer):
        yield from differences(first.data, second.data, name)
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        for i, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f'{name}.{i}')
    else:
        yield _compare_leaves(first, second, name)


def _compare_leaves(first: Any, second: Any, name: str) -> str | None:
    if isinstance(first, np.ndarray | np.generic) and isinstance(second, np.ndarray | np.generic):
        first, second = torch.from_numpy(np.array(first)), torch.from_numpy(np.array(second))
    if not (isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)):
        return None if type(first) is type(second) and repr(first) == repr(second) else f'{name}: {first} and {second}'
    kinds = [f'{tuple(tensor.shape)} {tensor.dtype}' for tensor in (first, second)]
    if kinds[0] != kinds[1]:
        return f'{name}: {kinds[0]} and {kinds[1]}'
    if torch.equal(*(tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second))):
        return None
    gap = (first.double() - second.double()).abs().max().item()
    return f'{name}: {kinds[0]}, largest difference {gap:.3g}'
