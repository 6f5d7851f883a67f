"""Tables of a kernel's segments that the Triton kernels read from memory."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import without_autocast
from ..segments import Reachable, Segments, reachable

#: Rows and columns of the largest block that a band has in memory, and rows of a block that follows it.
BAND_BLOCK, BAND_TAIL = 64, 16
#: In which half-precision types bands are kept.
BAND_DTYPES = (torch.bfloat16, torch.float16)

#: Tables that are on a device already.
_kept: dict[tuple[Segments, Segments, torch.device], Tensor] = {}
#: Those taken apart for maps of a size: to do so takes longer than a small map's kernels.
_apart: dict[tuple[Segments, Segments, torch.device, int, int], Tables] = {}
#: So many sizes are kept; images of every size must not fill the memory.
MOST_SIZES = 4096


def tables_of(rows: Segments, columns: Segments, device: torch.device) -> Tensor:
    """The tables of a kernel's segments on a device, int32, to be taken apart by :class:`Tables`; the same each time.

    Made outside the op and handed to it: what an op allocates and keeps may lie in the memory of a CUDA graph, which is
    given to others.
    """
    key = rows, columns, device
    if key not in _kept:
        # made on the CPU, where its autocast would refuse bands of two half-precision types
        with torch.inference_mode(False), torch.no_grad(), without_autocast('cpu'):
            starts = [first - sum(rows) // 2 for first in accumulate(rows[:-1], initial=0)]
            row_table = torch.tensor([starts, rows], dtype=torch.int32).T.flatten()
            scales = torch.tensor([0.5 ** (size - 1).bit_length() for size in rows])
            column_table = torch.tensor([index for index, size in enumerate(columns) for _ in range(size)]).int()
            bands = [_bands(rows, starts, scales, dtype) for dtype in BAND_DTYPES]
            parts = [row_table, scales, column_table, *bands]
            padded = [torch.cat([part, part.new_zeros(-len(part) % 4)]).view(torch.int32) for part in parts]
            _kept[key] = torch.cat(padded).to(device)
    return _kept[key]


# as `installation_refusal`: a graph that torch.compile takes reads the tables as it reads a buffer
tables_of._dynamo_marked_constant = True  # type: ignore[attr-defined]


def has_tables(rows: Segments, columns: Segments, device: torch.device) -> bool:
    """Whether :func:`tables_of` would only look them up."""
    return (rows, columns, device) in _kept


class Tables(NamedTuple):
    """The tables of a kernel, and where in them the part begins that reaches across a map."""

    row_table: Tensor
    """First tap and size of each row segment."""
    scales: Tensor
    """By what each row segment's sums are scaled in float16."""
    column_table: Tensor
    """The column segment of each lag."""
    bands: dict[torch.dtype, Tensor]
    """(2, ...): row segments as 0/1 rows in eight copies; and the same counted from each segment's own first tap."""
    band_origin: int
    """Where lag 0 is in the first copy of a band's row."""
    band_length: int
    """Elements of a copy."""
    row_axis: Reachable
    """The row segments that reach."""
    column_axis: Reachable
    """The column segments that reach."""
    firsts: tuple[int, int, int]
    """The first row segment, column segment and lag that reach."""

    def kept(self, weight: Tensor) -> Tensor:
        """Of (C, 1, rows, columns) the segments that reach."""
        if weight.shape[2:] == (len(self.row_axis.sizes), len(self.column_axis.sizes)):
            return weight
        return weight[:, :, self.row_axis.kept, self.column_axis.kept]

    @classmethod
    def of(cls, tables: Tensor, rows: Segments, columns: Segments, height: int, width: int) -> Tables:
        """Those in the tensor that :func:`tables_of` made, for maps of a size; kept for that very tensor."""
        if _kept.get((rows, columns, tables.device)) is not tables:  # a copy of a graph's, say
            return cls._of(tables, rows, columns, height, width)
        key = rows, columns, tables.device, height, width
        if key not in _apart:
            if len(_apart) >= MOST_SIZES:
                _apart.clear()
            with torch.inference_mode(False), torch.no_grad():
                _apart[key] = cls._of(tables, rows, columns, height, width)
        return _apart[key]

    @classmethod
    def _of(cls, tables: Tensor, rows: Segments, columns: Segments, height: int, width: int) -> Tables:
        row_axis, column_axis = reachable(rows, height), reachable(columns, width)
        origin, length = _band_place(rows)
        band = len(rows) * 8 * length  # two of them in half precision
        lengths = [2 * len(rows), len(rows), sum(columns), *[band] * len(BAND_DTYPES)]
        row_table, scales, column_table, *bands = tables.split([-(-length // 4) * 4 for length in lengths])
        halves = {dtype: pair.view(dtype).view(2, -1) for dtype, pair in zip(BAND_DTYPES, bands, strict=True)}
        first_lag = sum(columns) // 2 - column_axis.radius
        firsts = row_axis.first, column_axis.first, first_lag
        return cls(
            row_table, scales.view(torch.float32), column_table, halves, origin, length, row_axis, column_axis, firsts
        )


def _band_place(rows: Segments) -> tuple[int, int]:
    """Where lag 0 is in the first copy of a band's row, and a copy's elements, both multiples of 8.

    A block's last row looks so far up, a long segment's last tail so far down.
    """
    radius = sum(rows) // 2
    origin = BAND_BLOCK + -(-radius // 8) * 8
    return origin, origin + BAND_BLOCK + -(-max(radius, *rows) // BAND_TAIL) * BAND_TAIL


def _bands(rows: Segments, starts: list[int], scales: Tensor, dtype: torch.dtype) -> Tensor:
    """(2, R, 8, length) as a flat tensor: lag l + s - origin is in segment a; in float16 the ones carry its scale."""
    origin, length = _band_place(rows)
    lag = torch.arange(length) + torch.arange(8)[:, None] - origin
    sizes, ones = torch.tensor(rows)[:, None, None], scales[:, None, None] if dtype == torch.float16 else 1.0
    both = [((lag >= start) & (lag < start + sizes)) * ones for start in (torch.tensor(starts)[:, None, None], 0)]
    return torch.stack(both).to(dtype).flatten()
