"""What a launch fixes when a kernel is compiled: its blocks, warps, and how tensor cores multiply."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .triton_start import interpreting


class Tiles(NamedTuple):
    """A program's blocks and warps. In the weight gradient BLOCK_M is the inner dimension of the product."""

    rows: int
    columns: int
    sources: int
    warps: int


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
