"""Launching the Triton kernels: the tables they read, their tiles, and which formulation serves which shape."""

from __future__ import annotations

import math
import os
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..segments import Reachable, Segments, expand, reachable

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


def forward(input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None) -> Tensor:
    """Depthwise cross-correlation with a kernel shared over segments, "same" zero padding, stride 1.

    Products are accumulated in float32. A float32 input is multiplied in three passes that keep float32's precision, or
    in one where the user allows TF32 (:func:`precision`).

    Args:
        input: (N, C, H, W); float32, float16 or bfloat16.
        weight: (C, 1, len(rows), len(columns)).
        rows, columns: Segments of the kernel's axes, symmetric, of odd sums.
        bias: (C,), or a map (C, H, W) added to every image, or None.
    """
    output = torch.empty_like(input, memory_format=torch.contiguous_format)
    if output.numel() == 0:
        return output
    n, _, height, width = input.shape
    row_axis, column_axis = reachable(rows, height), reachable(columns, width)
    kept = weight[:, :, row_axis.kept, column_axis.kept]
    if any(height * width <= pixels and n >= images for pixels, images in FEWEST_IMAGES.items()):
        _correlate_maps(_aligned(input.contiguous()), expand(kept, row_axis.sizes, column_axis.sizes), bias, output)
    else:
        _correlate_rows(_row_major(input), _aligned(kept.contiguous()), row_axis, column_axis, bias, output)
    return output


def backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    rows: Segments,
    columns: Segments,
    needs_input: bool,
    needs_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`forward` by ``input`` and ``weight``, None where not needed; deterministic."""
    grad = _row_major(grad)  # both gradients read it: one copy of another layout
    # symmetric segments: the adjoint of the correlation is the one with the flipped weights
    grad_input = forward(grad, weight.flip(2, 3), rows, columns, None) if needs_input else None
    return grad_input, _weight_gradient(input, grad, weight, rows, columns) if needs_weight else None


def _correlate_rows(
    input: Tensor, weight: Tensor, row_axis: Reachable, column_axis: Reachable, bias: Tensor | None, output: Tensor
) -> None:
    from . import triton_kernels

    n, channels, height, width = input.shape
    tiles = ROW_TILES[_block(width)]
    unit = _unit(input.dtype, width, *input.stride()[:3], *output.stride()[:3])
    lead, chunks = _sources(width, column_axis.radius, tiles, unit)
    line_blocks, column_blocks = -(-n * height // tiles.rows), -(-width // tiles.columns)
    sums = _row_sums(input, row_axis, unit)
    _launch(
        triton_kernels.correlate_rows,
        line_blocks * column_blocks * channels,
        input,
        input if sums is None else sums,
        weight,
        *_tables(row_axis, column_axis, input.device),
        input if bias is None else _aligned(bias.contiguous()),
        output,
        n * height,
        height,
        width // unit,
        len(row_axis.sizes),
        len(column_axis.sizes),
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
    _launch(
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


def _weight_gradient(input: Tensor, grad: Tensor, weight: Tensor, rows: Segments, columns: Segments) -> Tensor:
    from . import triton_kernels

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
    parts = max(1, min(blocks, _multiprocessors(input.device) * PROGRAMS_EACH // (channels * chunks)))
    blocks_each = -(-blocks // parts)
    parts = -(-blocks // blocks_each)
    shape = (parts, chunks, channels, len(row_axis.sizes), len(column_axis.sizes))
    sums = _row_sums(input, row_axis, unit)
    shares = torch.empty(shape, dtype=torch.float32, device=input.device)
    _launch(
        triton_kernels.weight_gradient,
        parts * chunks * channels,
        input,
        input if sums is None else sums,
        grad,
        *_tables(row_axis, column_axis, input.device),
        shares,
        n * height,
        height,
        width // unit,
        len(row_axis.sizes),
        len(column_axis.sizes),
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
    _launch(
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


def _launch(kernel: Any, programs: int, input: Tensor, *args: Any, **options: Any) -> None:
    """Start ``programs`` of a kernel, whose first argument is ``input``, on the input's device."""
    with torch.cuda.device(input.device) if input.is_cuda else nullcontext():
        kernel[(programs,)](input, *args, **options)


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


def _multiprocessors(device: torch.device) -> int:
    """How many programs run side by side at the least; in the interpreter a few, so that there are parts to sum."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 8


@lru_cache(maxsize=256)
def _tables(row_axis: Reachable, column_axis: Reachable, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """First tap and size of each row segment; its scale; the column segment of each lag. Constants of the shapes."""
    scales = [0.5 ** (size - 1).bit_length() for size in row_axis.sizes]
    segment_of_lag = [index for index, size in enumerate(column_axis.sizes) for _ in range(size)]
    with torch.inference_mode(False):
        return (
            torch.tensor(list(zip(row_axis.starts, row_axis.sizes, strict=True)), dtype=torch.int32, device=device),
            torch.tensor(scales, dtype=torch.float32, device=device),
            torch.tensor(segment_of_lag, dtype=torch.int32, device=device),
        )


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


def interpreting() -> bool:
    """Whether Triton interprets its kernels, on CPU tensors."""
    return os.environ.get('TRITON_INTERPRET') == '1'


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
