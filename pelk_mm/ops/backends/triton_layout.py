"""Launching the Triton kernels between channels-last rows and planes: their tiles, and the layouts they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .triton_start import interpreting, launch


class Tile(NamedTuple):
    """A program's pixels and warps, and how many registers a thread may have."""

    pixels: int
    warps: int
    registers: int = 128


#: Blocks that are transposed: their channels, and their pixels, fewer where three operands are read.
BLOCK_CHANNELS = 64
PLANES_TILE, OPEN_TILE = Tile(64, 4), Tile(32, 4)
#: By the channels of a row, a power of two: a program holds whole rows in registers, two programs a multiprocessor
#: where they fit. Eight pixels of a plane in bfloat16 are half of what memory is read in, thus not fewer unless needed.
NORM_TILES = {128: Tile(32, 8), 256: Tile(32, 8), 512: Tile(16, 8), 1024: Tile(16, 16), 2048: Tile(8, 16)}
GRADIENT_TILES = {
    128: Tile(32, 8),
    256: Tile(16, 8),
    512: Tile(16, 16),
    1024: Tile(8, 8, 255),
    2048: Tile(4, 8, 255),
}
#: A map of one image holds fewer elements than this: offsets within it are int32.
MOST_ELEMENTS = 1 << 30


def norm_block(width: int) -> int | None:
    """How many channels a program holds for rows of ``width``, None where they are too many."""
    return next((block for block in NORM_TILES if width <= block), None)


def padded(channels: int) -> int:
    """The longest row that the kernels write for so many channels: 16 bytes hold at most 8 elements."""
    return -(-channels // 8) * 8


def to_planes(input: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """The first ``channels`` of (N, C, H, W) as contiguous (N, channels, H, W) in ``dtype``.

    Read as they lie where ``input`` is channels-last or channels of such a tensor, else copied before.
    """
    from . import triton_layout_kernels

    n, _, height, width = input.shape
    output = torch.empty(n, channels, height, width, dtype=dtype, device=input.device)
    if output.numel():
        input, pitch = _rows(input)
        pixel_blocks, channel_blocks = -(-height * width // PLANES_TILE.pixels), -(-channels // BLOCK_CHANNELS)
        launch(
            triton_layout_kernels.to_planes,
            n * pixel_blocks * channel_blocks,
            input,
            output,
            height * width,
            channels,
            pitch,
            pixel_blocks,
            channel_blocks,
            BLOCK_C=BLOCK_CHANNELS,
            **_constants(PLANES_TILE),
        )
    return output


def open_block_backward(
    planes: Tensor | None,
    passed: Tensor | None,
    residual: Tensor | None,
    shape: Sequence[int],
    channels: int,
    dtype: torch.dtype,
) -> Tensor:
    """The sum of three gradients of x, (N, C, H, W) channels-last in ``dtype``: what is None counts as zeros.

    Args:
        planes: (N, channels, H, W), of the first channels.
        passed: (N, C - channels, H, W), of the others.
        residual: (N, C, H, W), of all.
        shape: (N, C, H, W).
        channels: g.
        dtype: Of x.
    """
    from . import triton_layout_kernels

    given = next(grad for grad in (planes, passed, residual) if grad is not None)
    n, count, height, width = shape

    def empty(count: int) -> Tensor:
        return torch.empty(n, height, width, count, dtype=dtype, device=given.device).permute(0, 3, 1, 2)

    output = empty(count)
    if output.numel():
        planes = empty(channels).zero_().contiguous() if planes is None else planes.contiguous()
        passed, passed_pitch = _rows(empty(count - channels).zero_() if passed is None else passed)
        residual, residual_pitch = _rows(empty(count).zero_() if residual is None else residual)
        pixel_blocks, channel_blocks = -(-height * width // OPEN_TILE.pixels), -(-count // BLOCK_CHANNELS)
        launch(
            triton_layout_kernels.open_block_gradient,
            n * pixel_blocks * channel_blocks,
            planes,
            passed,
            residual,
            output,
            height * width,
            channels,
            count,
            passed_pitch,
            residual_pitch,
            pixel_blocks,
            channel_blocks,
            **_row_constants(BLOCK_CHANNELS, OPEN_TILE),
        )
    return output


def join_norm(
    mixed: Tensor,
    passed: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype,
    width: int,
    statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNorm over all channels of (N, g, H, W) planes and (N, C - g, H, W) rows, (N, H, W, width) in ``dtype``.

    Returns:
        The output, and with ``statistics`` the mean and 1 / standard deviation, each (N * H * W,) in float32, of every
        pixel; else two empty tensors.
    """
    from . import triton_layout_kernels

    n, convolved, height, width_of_map = mixed.shape
    pixels = height * width_of_map
    output = torch.empty(n, height, width_of_map, width, dtype=dtype, device=mixed.device)
    mean, rstd = (
        torch.empty(n * pixels if statistics else 0, dtype=torch.float32, device=mixed.device) for _ in range(2)
    )
    if output.numel():
        block = norm_block(width)
        assert block is not None, width
        tile = NORM_TILES[block]
        passed, pitch = _rows(passed)
        pixel_blocks = -(-pixels // tile.pixels)
        launch(
            triton_layout_kernels.join_norm,
            n * pixel_blocks,
            mixed.contiguous(),
            passed,
            weight.contiguous(),
            bias.contiguous(),
            output,
            mean,
            rstd,
            pixels,
            convolved,
            convolved + passed.shape[1],
            width,
            pitch,
            float(eps),
            pixel_blocks,
            STATISTICS=statistics,
            **_row_constants(block, tile),
        )
    return output, mean, rstd


def join_norm_backward(
    grad: Tensor,
    mixed: Tensor,
    passed: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of :func:`join_norm` by mixed, passed, weight and bias, None where ``mask`` says not needed.

    That of ``mixed`` is contiguous, that of ``passed`` channels-last. Deterministic: every program writes its sums.

    Args:
        grad: (N, H, W, width).
        mixed, passed, weight: What the forward pass was given.
        mean, rstd: What it gave.
        mask: One flag for each gradient.
    """
    from . import triton_layout_kernels

    n, convolved, height, width = mixed.shape
    others, pixels = passed.shape[1], height * width
    count = convolved + others
    # both whatever is needed: a frozen part is rare, and would take a binary of its own
    d_mixed = torch.empty_like(mixed, memory_format=torch.contiguous_format)
    d_passed = torch.empty(n, height, width, others, dtype=passed.dtype, device=passed.device)
    block = norm_block(count)
    assert block is not None, count
    tile = GRADIENT_TILES[block]
    pixel_blocks = -(-pixels // tile.pixels)
    programs = n * pixel_blocks
    # the widest rows are summed in any case: without that, ptxas keeps too much at once and spills
    sums = mask[2] or mask[3] or block == max(GRADIENT_TILES)
    shares = torch.empty(programs if sums else 0, 2, count, dtype=torch.float32, device=mixed.device)
    if programs:
        grad = grad if grad.is_contiguous() else grad.contiguous()
        passed, pitch = _rows(passed)
        launch(
            triton_layout_kernels.join_norm_gradients,
            programs,
            grad,
            mixed.contiguous(),
            passed,
            weight.contiguous(),
            mean,
            rstd,
            d_mixed,
            d_passed,
            shares,
            pixels,
            convolved,
            count,
            grad.shape[3],
            pitch,
            pixel_blocks,
            PASSED=others > 0,
            PARAMETERS=sums,
            **_row_constants(block, tile),
        )
    d_weight, d_bias = (shares[:, i].sum(0).to(weight.dtype) if mask[2 + i] else None for i in range(2))
    d_rows = d_passed.permute(0, 3, 1, 2)
    return d_mixed if mask[0] else None, d_rows if mask[1] else None, d_weight, d_bias


def _row_constants(block: int, tile: Tile) -> dict[str, Any]:
    """What a launch of a kernel that joins planes and rows fixes at compile time: ``block`` channels at a time."""
    return {'GROUPS': block // 32, **_constants(tile)}


def _constants(tile: Tile) -> dict[str, Any]:
    return {
        'BLOCK_P': tile.pixels,
        'PRECISION': 'interpreted' if interpreting() else 'ieee',
        'num_warps': tile.warps,
        'num_stages': 1,
        'maxnreg': tile.registers,
    }


def _rows(tensor: Tensor) -> tuple[Tensor, int]:
    """A tensor (N, C, H, W) whose pixels are rows of channels, one behind the other, and how far they lie apart."""
    n, count, height, width = tensor.shape
    strides = tensor.stride()
    # sizes of 1 have any stride
    pitch = next((s // i for s, i, size in _pixel_strides(strides, height, width, n) if size > 1), count)
    even = all(s == pitch * i for s, i, size in _pixel_strides(strides, height, width, n) if size > 1)
    near = pitch * height * width < 1 << 31  # offsets within an image are int32
    if even and near and pitch >= count and (strides[1] == 1 or count <= 1):
        return tensor, pitch
    return tensor.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), count


def _pixel_strides(strides: Sequence[int], height: int, width: int, n: int) -> list[tuple[int, int, int]]:
    """(stride, pixels it crosses in rows, size) along W, H and N."""
    return [(strides[3], 1, width), (strides[2], width, height), (strides[0], width * height, n)]
