"""Launching the Triton kernels: the tables they read, their tiles, and which formulation serves which shape."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..segments import Reachable, Segments, expand, reachable
from .triton_start import hardware_of, interpreting, launch

#: Alignments, in elements, that kernels are compiled for: up to 16 bytes at a time.
UNITS = (8, 4, 2, 1)
#: Sums of this many rows are computed beforehand, and read instead of rows, where that saves enough reads a pixel.
SUM_ROWS = 8
FEWEST_READS_SAVED = 40
SUM_TILES = {'BLOCK_M': 16, 'BLOCK_N': 64, 'num_warps': 4, 'num_stages': 1}
#: Whole maps beat rows where a channel's taps as a matrix between pixels are small beside its images: of at most this
#: many pixels from so many images on.
FEWEST_IMAGES = {256: 32, 1024: 64}
#: Programs of the weight gradient for each multiprocessor: as many as fit one at a time, since each sums its shares.
PROGRAMS_EACH = 2


class Tiles(NamedTuple):
    """A program's blocks and warps. In the weight gradient BLOCK_M is the inner dimension of the product."""

    rows: int
    columns: int
    sources: int
    warps: int


#: By the width of a block of columns. Small inner blocks: two programs and more fit a multiprocessor's registers.
ROW_TILES = {16: Tiles(64, 16, 16, 4), 32: Tiles(64, 32, 32, 8), 64: Tiles(64, 64, 32, 4)}
GRADIENT_TILES = {16: Tiles(64, 16, 16, 2), 32: Tiles(32, 32, 32, 4), 64: Tiles(32, 64, 64, 8)}
#: Images, pixels, source pixels. Many images, since the matrix is gathered anew for each block of them.
MAP_TILES = Tiles(128, 64, 32, 8)


class _Tables(NamedTuple):
    """What kernels read of an axis's segments, and where in it the part begins that reaches across a map."""

    tensors: tuple[Tensor, Tensor, Tensor]
    """First tap and size of each row segment; its scale; the column segment of each lag."""
    firsts: tuple[int, int, int]
    """The first row segment, column segment and lag that reach."""

    @classmethod
    def of(
        cls, tables: Tensor, rows: Segments, columns: Segments, row_axis: Reachable, column_axis: Reachable
    ) -> _Tables:
        """Those of the tensor that :func:`tables_of` made."""
        row_table, scales, column_table = tables.split([_padded(2 * len(rows)), _padded(len(rows)), sum(columns)])
        first_lag = sum(columns) // 2 - column_axis.radius
        return cls(
            (row_table, scales.view(torch.float32), column_table), (row_axis.first, column_axis.first, first_lag)
        )


#: Tables that are on a device already.
_kept_tables: dict[tuple[Segments, Segments, torch.device], Tensor] = {}


def tables_of(rows: Segments, columns: Segments, device: torch.device) -> Tensor:
    """The tables of a kernel's segments on a device, int32; the same tensor each time.

    Made outside the op and handed to it: what an op allocates and keeps may lie in the memory of a CUDA graph, which is
    given to others.
    """
    key = rows, columns, device
    if key not in _kept_tables:
        starts = [first - sum(rows) // 2 for first in accumulate(rows[:-1], initial=0)]
        row_table = [number for pair in zip(starts, rows, strict=True) for number in pair]
        scales = torch.tensor([0.5 ** (size - 1).bit_length() for size in rows]).view(torch.int32).tolist()
        segment_of_lag = [index for index, size in enumerate(columns) for _ in range(size)]
        parts = [numbers + [0] * (_padded(len(numbers)) - len(numbers)) for numbers in (row_table, scales)]
        with torch.inference_mode(False):
            _kept_tables[key] = torch.tensor([*parts[0], *parts[1], *segment_of_lag], dtype=torch.int32, device=device)
    return _kept_tables[key]


# as `installation_refusal`: a graph that torch.compile takes reads the tables as it reads a buffer
tables_of._dynamo_marked_constant = True  # type: ignore[attr-defined]


def has_tables(rows: Segments, columns: Segments, device: torch.device) -> bool:
    """Whether :func:`tables_of` would only look them up."""
    return (rows, columns, device) in _kept_tables


def _padded(length: int) -> int:
    """``length`` rounded up to 16 bytes of int32, at which kernels expect a table to begin."""
    return -(-length // 4) * 4


def forward(
    input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None, tables: Tensor | None
) -> Tensor:
    """Depthwise cross-correlation with a kernel shared over segments, "same" zero padding, stride 1.

    Products are accumulated in float32. A float32 input is multiplied in three passes that keep float32's precision, or
    in one where the user allows TF32 (:func:`precision`).

    Args:
        input: (N, C, H, W); float32, float16 or bfloat16.
        weight: (C, 1, len(rows), len(columns)).
        rows, columns: Segments of the kernel's axes, symmetric, of odd sums.
        bias: (C,), or a map (C, H, W) added to every image, or None.
        tables: What :func:`tables_of` gives for the segments.
    """
    assert tables is not None
    output = torch.empty_like(input, memory_format=torch.contiguous_format)
    if output.numel() == 0:
        return output
    n, _, height, width = input.shape
    row_axis, column_axis = reachable(rows, height), reachable(columns, width)
    kept = weight[:, :, row_axis.kept, column_axis.kept]
    if any(height * width <= pixels and n >= images for pixels, images in FEWEST_IMAGES.items()):
        _correlate_maps(_aligned(input.contiguous()), expand(kept, row_axis.sizes, column_axis.sizes), bias, output)
    else:
        own = _Tables.of(tables, rows, columns, row_axis, column_axis)
        _correlate_rows(_row_major(input), _aligned(kept.contiguous()), row_axis, column_axis, own, bias, output)
    return output


def backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    rows: Segments,
    columns: Segments,
    needs_input: bool,
    needs_weight: bool,
    tables: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`forward` by ``input`` and ``weight``, None where not needed; deterministic."""
    grad = _row_major(grad)  # both gradients read it: one copy of another layout
    # symmetric segments: the adjoint of the correlation is the one with the flipped weights
    grad_input = forward(grad, weight.flip(2, 3), rows, columns, None, tables) if needs_input else None
    return grad_input, _weight_gradient(input, grad, weight, rows, columns, tables) if needs_weight else None


def _correlate_rows(
    input: Tensor,
    weight: Tensor,
    row_axis: Reachable,
    column_axis: Reachable,
    tables: _Tables,
    bias: Tensor | None,
    output: Tensor,
) -> None:
    from . import triton_kernels

    n, channels, height, width = input.shape
    tiles = ROW_TILES[_block(width)]
    unit = _unit(input.dtype, width, *input.stride()[:3], *output.stride()[:3])
    lead, chunks = _sources(width, column_axis.radius, tiles, unit)
    line_blocks, column_blocks = -(-n * height // tiles.rows), -(-width // tiles.columns)
    sums = _row_sums(input, row_axis, unit)
    launch(
        triton_kernels.correlate_rows,
        line_blocks * column_blocks * channels,
        input,
        input if sums is None else sums,
        weight,
        *tables.tensors,
        input if bias is None else _aligned(bias.contiguous()),
        output,
        n * height,
        height,
        width // unit,
        len(row_axis.sizes),
        len(column_axis.sizes),
        *tables.firsts,
        chunks,
        lead // unit,
        column_axis.radius,
        line_blocks,
        column_blocks,
        *(stride // unit for stride in input.stride()[:3]),
        0 if sums is None else sums.stride(0) // unit,
        *(stride // unit for stride in output.stride()[:3]),
        *_bias_strides(bias, height * width),
        HAS_BIAS=bias is not None,
        UNIT=unit,
        SUM_ROWS=0 if sums is None else SUM_ROWS,
        **constants(tiles, input.dtype),
    )


def _correlate_maps(input: Tensor, kernel: Tensor, bias: Tensor | None, output: Tensor) -> None:
    from . import triton_kernels

    n, channels, height, width = input.shape
    pixels, tiles = height * width, MAP_TILES
    unit = _unit(input.dtype, pixels)
    image_blocks, pixel_blocks = -(-n // tiles.rows), -(-pixels // tiles.columns)
    launch(
        triton_kernels.correlate_maps,
        image_blocks * pixel_blocks * channels,
        input,
        _aligned(kernel.contiguous()),
        input if bias is None else _aligned(bias.contiguous()),
        output,
        n,
        height,
        width,
        pixels // unit,
        kernel.shape[2],
        kernel.shape[3],
        image_blocks,
        pixel_blocks,
        *(stride // unit for stride in (*input.stride()[:2], *output.stride()[:2])),
        *_bias_strides(bias, pixels),
        HAS_BIAS=bias is not None,
        UNIT=unit,
        **constants(tiles, input.dtype),
    )


def _weight_gradient(
    input: Tensor, grad: Tensor, weight: Tensor, rows: Segments, columns: Segments, tables: Tensor | None
) -> Tensor:
    from . import triton_kernels

    assert tables is not None
    result = torch.zeros_like(weight)
    if input.numel() == 0:
        return result
    input, grad = _row_major(input), _row_major(grad)
    n, channels, height, width = input.shape
    row_axis, column_axis = reachable(rows, height), reachable(columns, width)
    tiles = GRADIENT_TILES[_block(width)]
    strides = (*input.stride()[:3], *grad.stride()[:3])
    unit = _unit(input.dtype, width, *strides)
    lead, chunks = _sources(width, column_axis.radius, tiles, unit)
    blocks = -(-n * height // tiles.rows)
    parts = max(1, min(blocks, hardware_of(input.device).multiprocessors * PROGRAMS_EACH // (channels * chunks)))
    blocks_each = -(-blocks // parts)
    parts = -(-blocks // blocks_each)
    shape = (parts, chunks, channels, len(row_axis.sizes), len(column_axis.sizes))
    own = _Tables.of(tables, rows, columns, row_axis, column_axis)
    sums = _row_sums(input, row_axis, unit)
    shares = torch.empty(shape, dtype=torch.float32, device=input.device)
    launch(
        triton_kernels.weight_gradient,
        parts * chunks * channels,
        input,
        input if sums is None else sums,
        grad,
        *own.tensors,
        shares,
        n * height,
        height,
        width // unit,
        len(row_axis.sizes),
        len(column_axis.sizes),
        *own.firsts,
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
    result[:, 0, row_axis.kept, column_axis.kept] = shares.sum((0, 1)).to(weight.dtype)
    return result


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


def _row_major(tensor: Tensor) -> Tensor:
    """The tensor itself where the pixels of a row are neighbours and it is aligned, else a contiguous copy."""
    return _aligned(tensor if tensor.stride(3) == 1 else tensor.contiguous())


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy where it does not start at 16 bytes, as the kernels are compiled for."""
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone(memory_format=torch.contiguous_format)


def _block(width: int) -> int:
    """Columns of a block: the power of two that holds a map's row, between 16, the tensor cores' least, and 64."""
    return max(16, min(64, 1 << (width - 1).bit_length()))


def _sources(width: int, radius: int, tiles: Tiles, unit: int) -> tuple[int, int]:
    """How far before a block's first column its sources begin, and how many blocks of sources there are."""
    if width <= tiles.columns:  # one block holds the row, and its sources are the same
        return 0, -(-width // tiles.sources)
    lead = -(-radius // unit) * unit
    return lead, -(-(lead + tiles.columns + radius) // tiles.sources)


def units(dtype: torch.dtype) -> list[int]:
    """Those of UNITS that 16 bytes hold."""
    return [unit for unit in UNITS if unit * dtype.itemsize <= 16]


def _unit(dtype: torch.dtype, *lengths: int) -> int:
    """The largest alignment that divides every length."""
    return next(unit for unit in units(dtype) if math.gcd(*lengths) % unit == 0)


def _bias_strides(bias: Tensor | None, pixels: int) -> tuple[int, int]:
    """Strides of a bias between channels and between pixels."""
    return (1, 0) if bias is None or bias.ndim == 1 else (pixels, 1)


def constants(tiles: Tiles, dtype: torch.dtype) -> dict[str, Any]:
    """What a launch fixes at compile time by its tiles and dtype."""
    return {
        'BLOCK_M': tiles.rows,
        'BLOCK_N': tiles.columns,
        'BLOCK_K': tiles.sources,
        'PRECISION': precision(dtype),
        'num_warps': tiles.warps,
        'num_stages': 1,
        # the most there are: without a bound, ptxas spills a few to seat one more program
        'maxnreg': 255,
    }


def precision(dtype: torch.dtype) -> str:
    """How tensor cores multiply ``dtype``: float32 in one pass where the user allows TF32, else in three."""
    if interpreting():
        return 'interpreted'
    if dtype != torch.float32:
        return 'ieee'
    matmul = torch.backends.cuda.matmul
    # not `get_float32_matmul_precision`, which raises where a user set this newer name (torch 2.9)
    allowed = getattr(matmul, 'fp32_precision', None) or ('tf32' if matmul.allow_tf32 else 'ieee')
    return 'tf32' if allowed == 'tf32' else 'tf32x3'
