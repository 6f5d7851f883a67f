"""The fixed random tables of ShiftwiseConv, from generators of their own.

The authors reset the global generators to seed 123 in every module, and do not save what they draw: their weights fit
these tables alone. Drawn here with the same seed and in the same order, without touching a global generator.
"""

from __future__ import annotations

from functools import lru_cache
from math import floor

import numpy as np
import torch
from torch import Tensor

from ...utils.checks import check_int, check_number

SEED = 123


def shuffle_tables(channels: int, groups: int, edges: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which group stands where in each edge of a ShiftwiseConv.

    Args:
        channels: C_r, the channels that are convolved.
        groups: g.
        edges: R.

    Returns:
        horizontal and vertical (R, C_r, g), permutations; identity (R, C_r). int64 on the CPU, not to be written to.
    """
    # Where tensors are fake (FakeTensorMode), real ones are not welcome, and the fake ones must not be kept.
    draw = _draw if type(torch.empty(0)) is Tensor else _draw.__wrapped__
    return draw(channels, groups, edges)


@lru_cache(maxsize=32)
def _draw(channels: int, groups: int, edges: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator('cpu').manual_seed(SEED)
    permutations = [
        torch.stack([torch.randperm(groups, generator=generator, device='cpu') for _ in range(edges * channels)])
        for _ in ('horizontal', 'vertical')
    ]
    horizontal, vertical = (table.view(edges, channels, groups) for table in permutations)
    identity = [torch.randint(0, groups, (channels,), generator=generator, device='cpu') for _ in range(edges)]
    return horizontal, vertical, torch.stack(identity)


def count_convolved(channels: int, ghost_ratio: float, even: bool = True) -> int:
    """How many channels :func:`split_channels` convolves."""
    return floor(channels * (1 - ghost_ratio)) // 2 * 2 if even else channels - floor(channels * ghost_ratio)


def split_channels(channels: int, ghost_ratio: float, even: bool = True) -> tuple[Tensor, Tensor]:
    """Which channels a ShiftwiseConv convolves, and which pass it (its ghosts).

    Args:
        channels: C.
        ghost_ratio: G, the share that passes, in [0, 1).
        even: Convolve an even number of channels, 2 floor(floor(C (1 - G)) / 2), as the authors' second version does;
            otherwise all but floor(C G).

    Returns:
        The channels convolved and those passed, each in ascending order, int64 on the CPU.

    Raises:
        TypeError, ValueError: ``channels`` below 1, ``ghost_ratio`` outside [0, 1), or no channel left to convolve.
    """
    check_int('channels', channels, 1)
    check_number('ghost_ratio', ghost_ratio)
    if not 0 <= ghost_ratio < 1:
        raise ValueError(f'ghost_ratio must be in [0, 1), but got {ghost_ratio}')
    convolved = count_convolved(channels, ghost_ratio, even)
    if convolved < 1:
        raise ValueError(f'ghost_ratio={ghost_ratio} of {channels} channels leaves none to convolve: lower it')
    passed = np.sort(np.random.RandomState(SEED).choice(channels, channels - convolved, replace=False))
    kept = np.setdiff1d(np.arange(channels), passed)
    return torch.from_numpy(kept), torch.from_numpy(passed.astype(np.int64))
