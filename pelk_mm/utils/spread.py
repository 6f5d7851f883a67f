"""A few indices that stand for many."""

import numpy as np


def spread(length: int, count: int, nearest: bool = False) -> list[int]:
    """Choose up to ``count`` indices over ``length``, evenly, the first and, from two on, the last among them.

    Args:
        length: Indices run from 0 to ``length - 1``.
        count: How many to choose, at least 1; all of them where there are fewer.
        nearest: Take the index next to each even place, for pictures that people look at; else the one below it.
    """
    places = np.linspace(0, length - 1, min(count, length))
    return (places.round() if nearest else places).astype(int).tolist()
