"""The formulation by bands: window sums are products, and pixels are staged. For half precision on sm_90 and later.

A pixel that is not finite makes its map, or on larger maps its tile and those around, NaN: zeros of a band meet it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .triton_operands import aligned, bias_strides, unit_of
from .triton_rows import blocks_of_a_part, shifted_taps, sources_of
from .triton_start import hardware_of, launch
from .triton_tables import BAND_BLOCK, BAND_DTYPES, BAND_TAIL, Tables
from .triton_tiles import Tiles, constants

#: Tensor cores that read both factors from shared memory, and the sum's left factor from registers.
LEAST_CAPABILITY = (9, 0)
#: On narrower or lower maps most of a block lies off the map, where rows of several images fill one.
LEAST_WIDTH, LEAST_HEIGHT = 33, 24
#: One element at a time, addresses alone would fill the registers.
LEAST_UNIT = 2

#: By whether a map is wider than BAND_BLOCK. The weight gradient has registers for the narrower block only.
TILES = {False: Tiles(64, 64, 64, 4), True: Tiles(64, 128, 64, 4)}
GRADIENT_TILES = TILES[False]


def serves(input: Tensor) -> bool:
    """Whether this is the formulation for maps like these on their device."""
    return (
        input.dtype in BAND_DTYPES
        and input.shape[2] >= LEAST_HEIGHT
        and input.shape[3] >= LEAST_WIDTH
        and input.shape[3] % LEAST_UNIT == 0
        and hardware_of(input.device).capability >= LEAST_CAPABILITY
    )


def correlate(input: Tensor, weight: Tensor, tables: Tables, bias: Tensor | None, output: Tensor) -> None:
    """The convolution of a row-major ``input`` with the segments of ``weight`` that reach, (C, 1, R, S)."""
    from . import triton_band_kernels

    input = _paired(input)
    n, channels, height, width = input.shape
    tiles = TILES[width > BAND_BLOCK]
    whole = max(height, width) <= BAND_BLOCK
    unit = unit_of(input.dtype, width, *input.stride()[:3], *output.stride()[:3])
    lead, chunks = sources_of(width, tables.column_axis.radius, tiles, 8)
    row_blocks, column_blocks = -(-height // tiles.rows), -(-width // tiles.columns)
    origin, length = tiles.columns + lead, tiles.columns + chunks * tiles.sources
    taps = shifted_taps(weight, tables, origin, length)
    launch(
        triton_band_kernels.correlate_bands,
        row_blocks * column_blocks * n * channels,
        input,
        taps,
        _bands(tables, input.dtype, whole),
        tables.row_table,
        input if bias is None else aligned(bias.contiguous()),
        output,
        height,
        width // unit,
        len(tables.row_axis.sizes),
        tables.row_axis.first,
        origin,
        length // 8,
        tables.band_origin,
        tables.band_length // 8,
        channels,
        chunks,
        lead // 8,
        row_blocks,
        column_blocks,
        *(stride // unit for stride in (*input.stride()[:3], *output.stride()[:3])),
        *bias_strides(bias, height * width),
        HAS_BIAS=bias is not None,
        UNIT=unit,
        WHOLE=whole,
        TAIL=BAND_TAIL,
        **constants(tiles, input.dtype),
    )


def weight_gradient(input: Tensor, grad: Tensor, tables: Tables) -> Tensor:
    """(parts, offsets, C, R, S) in float32: shares of the gradients of the segments that reach."""
    from . import triton_band_kernels

    input, grad = _paired(input), _paired(grad)
    n, channels, height, width = input.shape
    tiles = GRADIENT_TILES
    whole = max(height, width) <= BAND_BLOCK
    strides = (*input.stride()[:3], *grad.stride()[:3])
    unit = unit_of(input.dtype, width, *strides)
    lead, chunks = sources_of(width, tables.column_axis.radius, tiles, 8)
    row_blocks = -(-height // tiles.rows)
    blocks = n * row_blocks
    blocks_each = blocks_of_a_part(blocks, channels * chunks, input.device)
    parts = -(-blocks // blocks_each)
    shape = (parts, chunks, channels, len(tables.row_axis.sizes), len(tables.column_axis.sizes))
    shares = torch.empty(shape, dtype=torch.float32, device=input.device)
    launch(
        triton_band_kernels.band_gradient,
        parts * chunks * channels,
        input,
        grad,
        _bands(tables, input.dtype, whole),
        tables.row_table,
        tables.scales,
        tables.column_table,
        shares,
        height,
        width // unit,
        *shape[3:],
        *tables.firsts,
        tables.column_axis.radius,
        tables.band_origin,
        tables.band_length // 8,
        channels,
        chunks,
        lead // 8,
        row_blocks,
        -(-width // tiles.columns),
        blocks,
        blocks_each,
        *(stride // unit for stride in strides),
        UNIT=unit,
        WHOLE=whole,
        TAIL=BAND_TAIL,
        **constants(tiles, input.dtype),
    )
    return shares


def _paired(tensor: Tensor) -> Tensor:
    """The tensor itself, or a contiguous copy where LEAST_UNIT does not divide its strides."""
    return tensor if all(stride % LEAST_UNIT == 0 for stride in tensor.stride()[:3]) else tensor.contiguous()


def _bands(tables: Tables, dtype: torch.dtype, whole: bool) -> Tensor:
    """Bands counted from lag 0 for maps that are staged whole, else from each segment's first row."""
    return tables.bands[dtype][0 if whole else 1]
