"""What the ``triton`` back-end computes, and which of its formulations serves which shape."""

from __future__ import annotations

import torch
from torch import Tensor

from ..segments import Segments, expand
from . import triton_bands, triton_rows
from .triton_operands import aligned, bias_strides, row_major, unit_of
from .triton_start import launch
from .triton_tables import Tables
from .triton_tiles import Tiles, constants

#: Whole maps beat rows where a channel's taps as a matrix between pixels are small beside its images: of at most this
#: many pixels from so many images on.
FEWEST_IMAGES = {256: 32, 1024: 64}
#: Images, pixels, source pixels. Many images, since the matrix is gathered again for each block of them; four warps, of
#: half as many instructions in all, where registers hold the addresses.
MAP_TILES = Tiles(128, 64, 32, 4)
LARGE_MAP_TILES = Tiles(128, 64, 32, 8)


def forward(
    input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None, tables: Tensor | None
) -> Tensor:
    """Depthwise cross-correlation with a kernel shared over segments, "same" zero padding, stride 1.

    Products are accumulated in float32. A float32 input is multiplied in three passes that keep float32's precision, or
    in one where the user allows TF32 (:func:`~.triton_tiles.precision`).

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
    own = Tables.of(tables, rows, columns, *input.shape[2:])
    kept = own.kept(weight)
    if _takes_maps(input):
        kernel = expand(kept, own.row_axis.sizes, own.column_axis.sizes)
        _correlate_maps(aligned(input.contiguous()), kernel, bias, output)
    else:
        formulation = triton_bands if triton_bands.serves(input) else triton_rows
        formulation.correlate(row_major(input), aligned(kept.contiguous()), own, bias, output)
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
    grad = row_major(grad)  # both gradients read it: one copy of another layout
    # symmetric segments: the adjoint of the correlation is the one with the flipped weights
    grad_input = forward(grad, weight.flip(2, 3), rows, columns, None, tables) if needs_input else None
    return grad_input, _weight_gradient(input, grad, weight, rows, columns, tables) if needs_weight else None


def _weight_gradient(
    input: Tensor, grad: Tensor, weight: Tensor, rows: Segments, columns: Segments, tables: Tensor | None
) -> Tensor:
    assert tables is not None
    if input.numel() == 0:
        return torch.zeros_like(weight)
    own = Tables.of(tables, rows, columns, *input.shape[2:])
    formulation = triton_bands if triton_bands.serves(input) else triton_rows
    shares = formulation.weight_gradient(row_major(input), grad, own)
    found = shares.sum((0, 1)).to(weight.dtype).unsqueeze(1)
    if found.shape == weight.shape:
        return found
    result = torch.zeros_like(weight)
    own.kept(result).copy_(found)
    return result


def _takes_maps(input: Tensor) -> bool:
    n, _, height, width = input.shape
    return any(height * width <= pixels and n >= images for pixels, images in FEWEST_IMAGES.items())


def _correlate_maps(input: Tensor, kernel: Tensor, bias: Tensor | None, output: Tensor) -> None:
    from . import triton_kernels

    n, channels, height, width = input.shape
    pixels = height * width
    unit = unit_of(input.dtype, pixels)
    tiles = MAP_TILES if unit > 1 and input.dtype != torch.float32 else LARGE_MAP_TILES
    image_blocks, pixel_blocks = -(-n // tiles.rows), -(-pixels // tiles.columns)
    launch(
        triton_kernels.correlate_maps,
        image_blocks * pixel_blocks * channels,
        input,
        aligned(kernel.contiguous()),
        input if bias is None else aligned(bias.contiguous()),
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
        *bias_strides(bias, pixels),
        HAS_BIAS=bias is not None,
        UNIT=unit,
        **constants(tiles, input.dtype),
    )
