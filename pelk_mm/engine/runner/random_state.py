"""The states of the global random generators: read, put back, held over a block, or seeded for one block only."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def get_random_state() -> dict[str, Any]:
    """Read the states of ``random``, ``numpy.random``, PyTorch's CPU generator and that of the current GPU.

    Returns:
        Tensors and plain numbers alone, which a checkpoint read without running code may hold: 'python' (625,) int64,
        'python_gauss', 'numpy' (625,) int64, 'numpy_gauss', 'torch' uint8, and 'cuda' uint8 where a GPU is used.
    """
    _, words, python_gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    if kind != 'MT19937':
        raise RuntimeError(f"numpy's global generator must be MT19937, but got {kind}")
    state = {
        'python': torch.tensor(words, dtype=torch.int64),
        'python_gauss': python_gauss,
        'numpy': torch.tensor([*map(int, keys), int(position)], dtype=torch.int64),
        'numpy_gauss': float(cached) if has_gauss else None,
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`get_random_state` returned; a GPU's state only where there is a GPU."""
    random.setstate((3, tuple(state['python'].tolist()), state['python_gauss']))
    *keys, position = state['numpy'].tolist()
    gauss = state['numpy_gauss']
    np.random.set_state(('MT19937', np.array(keys, np.uint32), position, int(gauss is not None), gauss or 0.0))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def seed_generators(entropy: Sequence[int]) -> None:
    """Seed ``random``, ``numpy.random`` and PyTorch's CPU generator, for good.

    Args:
        entropy: Non-negative integers that name the stream. Streams of different names are independent.
    """
    words = np.random.SeedSequence(entropy).generate_state(5)
    random.seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(words[2])
    # torch.manual_seed would reset the GPUs' generators too.
    torch.default_generator.manual_seed(int(words[3]) << 32 | int(words[4]))


@contextmanager
def seeded(entropy: Sequence[int]) -> Iterator[None]:
    """Seed as :func:`seed_generators` does, inside the block; restore the states after it."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_generators(entropy)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
