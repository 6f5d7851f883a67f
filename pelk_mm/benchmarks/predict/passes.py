"""How often the loops of each Triton kernel are passed, from what it is launched with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...ops.backends.triton_kernels import MOST_DIAGONALS, SEGMENTS
from ...ops.backends.triton_start import Launch


@dataclass(frozen=True)
class Passes:
    """Passes of a loop, for each time that it is reached.

    Attributes:
        counts: Of several times, one after another.
        loads: Load instructions of one pass, by which an unrolled loop is recognised; 0 where none is.
    """

    counts: Sequence[float]
    loads: float = 0

    def of(self, unrolled: float) -> float:
        """On average, of a loop whose pass does the work of ``unrolled`` of the source's."""
        return sum(count // unrolled if unrolled > 1 else count for count in self.counts) / len(self.counts)


def passes_of(launch: Launch, rows: Sequence[int]) -> dict[str, Passes]:
    """Passes by the condition of each loop, for a program on average.

    Args:
        launch: What is started.
        rows: Sizes of the row segments that reach across the map.

    Raises:
        ValueError: The kernel is not described here.
    """
    name = launch.kernel.fn.__name__
    if name not in _KERNELS:
        raise ValueError(f'launch must be of one of the kernels {", ".join(_KERNELS)}, but got {name!r}')
    described: dict[str, Passes] = _KERNELS[name]({**launch.arguments, **launch.options}, rows)
    return described


def _rows(given: dict[str, Any], rows: Sequence[int]) -> dict[str, Passes]:
    loads = given['BLOCK_M'] * given['BLOCK_K'] / (32 * given['num_warps'] * given['UNIT'])
    together = given['SUM_ROWS']
    alone = [size % together if together else size for size in rows]
    described = {'size > 0': Passes(alone, loads)}
    if together:
        described['size >= SUM_ROWS'] = Passes([size // together for size in rows])
    return described


def _correlate_rows(given: dict[str, Any], rows: Sequence[int]) -> dict[str, Passes]:
    return {'chunk < chunks': _chunks(given, given['UNIT']), 'a < R': Passes([given['R']]), **_rows(given, rows)}


def _correlate_bands(given: dict[str, Any], rows: Sequence[int]) -> dict[str, Passes]:
    tails = {} if given['WHOLE'] else {'tail < size - 1': Passes([_ceil(size - 1, given['TAIL']) for size in rows])}
    return {'chunk < chunks': _chunks(given, 8), 'a < R': Passes([given['R']]), **tails}


def _chunks(given: dict[str, Any], lead_unit: int) -> Passes:
    """Blocks of sources on the map, for each block of columns."""
    width, block = given['W_units'] * given['UNIT'], given['BLOCK_K']
    lead = given['lead_units'] * lead_unit
    firsts = [index * given['BLOCK_N'] for index in range(given['column_blocks'])]
    counts = [
        min(given['chunks'], _ceil(width - first + lead, block)) - max(lead - first, 0) // block for first in firsts
    ]
    return Passes([sum(counts) / len(counts)])


def _gradient(given: dict[str, Any], lead_unit: int) -> dict[str, Passes]:
    width, columns, sources = given['W_units'] * given['UNIT'], given['BLOCK_N'], given['BLOCK_K']
    counts = []
    for o in range(given['chunks']):
        offset = o * sources - given['lead_units'] * lead_unit
        first = (max(-offset - sources, -columns) + columns) // columns
        counts.append(max(min(given['column_blocks'], _ceil(max(width - offset, 0), columns)) - first, 0))
    return {
        'a < R': Passes([given['R']]),
        'column_block < column_blocks': Passes([sum(counts) / len(counts)]),
        'first_b < S': Passes([_ceil(given['S'], SEGMENTS.value)]),
        'start < ROWS': Passes([_ceil(sources + columns - 1, min(sources + columns, MOST_DIAGONALS.value))]),
    }


def _weight_gradient(given: dict[str, Any], rows: Sequence[int]) -> dict[str, Passes]:
    return {
        **_gradient(given, given['UNIT']),
        **_rows(given, rows),
        'block < line_blocks': Passes([given['line_blocks']]),
    }


def _band_gradient(given: dict[str, Any], rows: Sequence[int]) -> dict[str, Passes]:
    parts = _ceil(given['blocks'], given['blocks_each'])
    tails = {} if given['WHOLE'] else {'tail < size - 1': Passes([_ceil(size - 1, given['TAIL']) for size in rows])}
    return {**_gradient(given, 8), 'block < last_block': Passes([given['blocks'] / parts]), **tails}


def _correlate_maps(given: dict[str, Any], rows: Sequence[int]) -> dict[str, Passes]:
    return {'start < P': Passes([_ceil(given['P_units'] * given['UNIT'], given['BLOCK_K'])])}


def _row_sums(given: dict[str, Any], rows: Sequence[int]) -> dict[str, Passes]:
    return {'first < W': Passes([_ceil(given['W_units'] * given['UNIT'], given['BLOCK_N'])])}


def _shift_taps(given: dict[str, Any], rows: Sequence[int]) -> dict[str, Passes]:
    return {'start < 8 * length': Passes([_ceil(64 * given['length_units'], given['BLOCK'])])}


def _no_loops(given: dict[str, Any], rows: Sequence[int]) -> dict[str, Passes]:
    return {}


def _ceil(length: float, block: float) -> int:
    return math.ceil(length / block)


_KERNELS = {
    'correlate_rows': _correlate_rows,
    'correlate_maps': _correlate_maps,
    'correlate_bands': _correlate_bands,
    'weight_gradient': _weight_gradient,
    'band_gradient': _band_gradient,
    'row_sums': _row_sums,
    'shift_taps': _shift_taps,
    **dict.fromkeys(['to_planes', 'join_norm', 'join_norm_gradients', 'open_block_gradient'], _no_loops),
}
