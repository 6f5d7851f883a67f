"""The formulation by rows: window sums are added in registers. For every dtype, width and GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from ..segments import Reachable, Segments
from .triton_operands import aligned, bias_strides, unit_of
from .triton_start import hardware_of, launch
from .triton_tables import Tables
from .triton_tiles import Tiles, constants

#: Sums of this many rows are computed beforehand, and read instead of rows, where that saves enough reads a pixel.
SUM_ROWS = 8
FEWEST_READS_SAVED = 40
SUM_TILES = {'BLOCK_M': 16, 'BLOCK_N': 64, 'num_warps': 4, 'num_stages': 1}
#: Elements that a program of the table of taps fills at a time.
TAPS_BLOCK = 512
#: Programs of the weight gradient for each multiprocessor: as many as fit one at a time, since each sums its shares.
PROGRAMS_EACH = 2
#: By the width of a block of columns. Four warps: of a product of 64 rows on sm_90, more would compute the same rows
#: twice, or carry the sum from one layout to another. Two programs and more fit a multiprocessor's registers.
ROW_TILES = {16: Tiles(64, 16, 16, 4), 32: Tiles(64, 32, 32, 4), 64: Tiles(64, 64, 32, 4)}
GRADIENT_TILES = {16: Tiles(64, 16, 16, 2), 32: Tiles(32, 32, 32, 2), 64: Tiles(32, 64, 64, 4)}
#: Where these would fill the registers.
SMALL_ROW_TILES = ROW_TILES | {32: Tiles(64, 32, 16, 4), 64: Tiles(64, 64, 16, 4)}
SMALL_GRADIENT_TILES = GRADIENT_TILES | {32: Tiles(32, 32, 32, 4), 64: Tiles(32, 64, 64, 8)}


def correlate(input: Tensor, weight: Tensor, tables: Tables, bias: Tensor | None, output: Tensor) -> None:
    """The convolution of a row-major ``input`` with the segments of ``weight`` that reach, (C, 1, R, S)."""
    from . import triton_kernels

    row_axis, column_axis = tables.row_axis, tables.column_axis
    n, channels, height, width = input.shape
    unit = unit_of(input.dtype, width, *input.stride()[:3], *output.stride()[:3])
    tiles = (SMALL_ROW_TILES if _fills_registers(input, unit) else ROW_TILES)[block_width(width)]
    lead, chunks = sources_of(width, column_axis.radius, tiles, unit)
    line_blocks, column_blocks = -(-n * height // tiles.rows), -(-width // tiles.columns)
    origin, length = tiles.columns + lead, tiles.columns + chunks * tiles.sources
    taps = shifted_taps(weight, tables, origin, length)
    sums = _row_sums(input, row_axis, unit)
    launch(
        triton_kernels.correlate_rows,
        line_blocks * column_blocks * channels,
        input,
        input if sums is None else sums,
        taps,
        tables.row_table,
        tables.scales,
        input if bias is None else aligned(bias.contiguous()),
        output,
        n * height,
        height,
        width // unit,
        len(row_axis.sizes),
        row_axis.first,
        origin,
        length // 8,
        chunks,
        lead // unit,
        line_blocks,
        column_blocks,
        *(stride // unit for stride in input.stride()[:3]),
        0 if sums is None else sums.stride(0) // unit,
        *(stride // unit for stride in output.stride()[:3]),
        *bias_strides(bias, height * width),
        HAS_BIAS=bias is not None,
        UNIT=unit,
        SUM_ROWS=0 if sums is None else SUM_ROWS,
        **constants(tiles, input.dtype),
    )


def weight_gradient(input: Tensor, grad: Tensor, tables: Tables) -> Tensor:
    """(parts, offsets, C, R, S) in float32: shares of the gradients of the segments that reach."""
    from . import triton_kernels

    n, channels, height, width = input.shape
    row_axis, column_axis = tables.row_axis, tables.column_axis
    strides = (*input.stride()[:3], *grad.stride()[:3])
    unit = unit_of(input.dtype, width, *strides)
    tiles = (SMALL_GRADIENT_TILES if _fills_registers(input, unit) else GRADIENT_TILES)[block_width(width)]
    lead, chunks = sources_of(width, column_axis.radius, tiles, unit)
    blocks = -(-n * height // tiles.rows)
    blocks_each = blocks_of_a_part(blocks, channels * chunks, input.device)
    parts = -(-blocks // blocks_each)
    shape = (parts, chunks, channels, len(row_axis.sizes), len(column_axis.sizes))
    sums = _row_sums(input, row_axis, unit)
    shares = torch.empty(shape, dtype=torch.float32, device=input.device)
    launch(
        triton_kernels.weight_gradient,
        parts * chunks * channels,
        input,
        input if sums is None else sums,
        grad,
        tables.row_table,
        tables.scales,
        tables.column_table,
        shares,
        n * height,
        height,
        width // unit,
        len(row_axis.sizes),
        len(column_axis.sizes),
        *tables.firsts,
        channels,
        chunks,
        lead // unit,
        column_axis.radius,
        blocks_each,
        -(-width // tiles.columns),
        *(stride // unit for stride in strides[:3]),
        0 if sums is None else sums.stride(0) // unit,
        *(stride // unit for stride in strides[3:]),
        UNIT=unit,
        SUM_ROWS=0 if sums is None else SUM_ROWS,
        **constants(tiles, input.dtype),
    )
    return shares


def shifted_taps(weight: Tensor, tables: Tables, origin: int, length: int) -> Tensor:
    """(C, R, 8, length): the taps of each row segment in eight copies, lag 0 at ``origin`` of the first."""
    from . import triton_kernels

    channels, _, row_segments, column_segments = weight.shape
    taps = torch.empty(channels, row_segments, 8, length, dtype=weight.dtype, device=weight.device)
    launch(
        triton_kernels.shift_taps,
        channels * row_segments,
        weight,
        tables.scales,
        tables.column_table,
        taps,
        row_segments,
        column_segments,
        *tables.firsts,
        tables.column_axis.radius,
        origin,
        length // 8,
        BLOCK=TAPS_BLOCK,
        num_warps=4,
    )
    return taps


def blocks_of_a_part(blocks: int, programs: int, device: torch.device) -> int:
    """Into how many blocks each to cut a sum over ``blocks`` that so many programs compute beside one another."""
    parts = max(1, min(blocks, hardware_of(device).multiprocessors * PROGRAMS_EACH // programs))
    return -(-blocks // parts)


def block_width(width: int) -> int:
    """Columns of a block: the power of two that holds a map's row, between 16, the tensor cores' least, and 64."""
    return max(16, min(64, 1 << (width - 1).bit_length()))


def sources_of(width: int, radius: int, tiles: Tiles, unit: int) -> tuple[int, int]:
    """How far before a block's first column its sources begin, and how many blocks of sources there are."""
    if width <= tiles.columns:  # one block holds the row, and its sources are the same
        return 0, -(-width // tiles.sources)
    lead = -(-radius // unit) * unit
    return lead, -(-(lead + tiles.columns + radius) // tiles.sources)


def _fills_registers(input: Tensor, unit: int) -> bool:
    """Addresses do, one element at a time; and in three TF32 passes what older tensor cores take from registers."""
    return unit == 1 or (input.dtype == torch.float32 and hardware_of(input.device).capability < (9, 0))


def _sums_pay(sizes: Segments, unit: int) -> bool:
    """Whether reading float32 sums, which cost twice a half row, saves enough; never one element at a time."""
    return unit > 1 and sum(size // SUM_ROWS * (SUM_ROWS - 2) for size in sizes) >= FEWEST_READS_SAVED


def _row_sums(input: Tensor, row_axis: Reachable, unit: int) -> Tensor | None:
    """(N, C, H + SUM_ROWS - 1, W) in float32: sums of SUM_ROWS rows that end with each row; None where not worth it."""
    if not _sums_pay(row_axis.sizes, unit):
        return None
    from . import triton_kernels

    n, channels, height, width = input.shape
    rows = height + SUM_ROWS - 1
    sums = torch.empty(n, channels, rows, width, dtype=torch.float32, device=input.device)
    row_blocks = -(-rows // SUM_TILES['BLOCK_M'])
    launch(
        triton_kernels.row_sums,
        row_blocks * n * channels,
        input,
        sums,
        height,
        width // unit,
        channels,
        row_blocks,
        *(stride // unit for stride in input.stride()[:3]),
        UNIT=unit,
        SUM_ROWS=SUM_ROWS,
        **SUM_TILES,
    )
    return sums
