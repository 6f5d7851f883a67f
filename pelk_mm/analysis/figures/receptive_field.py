"""Effective receptive field of a backbone: what each input pixel contributes to the centre of the last feature map.

The measure is RepLKNet's (Ding et al., arXiv 2203.06717, appendix; used by PeLK, arXiv 2403.07589). Two things follow
from the networks. Backbones end in a norm: over all channels its outputs sum to a constant while its scale is one, and
so the positive part of the centre is summed, as in RepLKNet's code. And a net with a layer scale of 1e-6 is, before
training, its stem and downsampling alone: build it with layer scale 1 to see what its kernels can reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor, nn

from .charts import new_figure

#: Shares of the contribution for which RepLKNet gives the side of the square.
SHARES = (0.2, 0.3, 0.5, 0.99)
#: The stages of these networks stride by 32 in all.
MIN_SIZE = 32
#: Cells a side of a picture: what is noise from pixel to pixel is averaged out, and the PNG stays small.
MAX_CELLS = 128


def contribution(backbone: nn.Module, images: Iterable[Tensor]) -> np.ndarray:
    """Sum, over images and their channels, of the positive part of d(centre) / d(pixel).

    "Centre" is the sum over channels of the positive part of the last feature map at (H // 2, W // 2). The backbone
    should be in evaluation mode; its parameters get no gradient.

    Args:
        backbone: Gives a feature map (N, C, H, W) or several, of which the last counts.
        images: Batches (N, C, H, W), all of one size; N = 1 takes the least memory.

    Returns:
        (H, W) float64, in units of the output per unit of the normalised input.

    Raises:
        ValueError: An image is smaller than 32 pixels, sizes differ, there is no image, the last output is not a map,
            or no pixel contributes.
    """
    total: Tensor | None = None
    device = next((parameter.device for parameter in backbone.parameters()), torch.device('cpu'))
    asked = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    try:
        for parameter in asked:
            parameter.requires_grad_(False)
        for batch in images:
            if min(batch.shape[2:]) < MIN_SIZE:
                raise ValueError(f'images must be at least {MIN_SIZE} pixels wide and high, but got {_size(batch)}')
            if total is not None and batch.shape[2:] != total.shape:
                raise ValueError(f'images must have one size, but got {_size(batch)} after {tuple(total.shape)}')
            pixels = batch.to(device).requires_grad_()
            with torch.enable_grad():
                feature_map = last_map(backbone(pixels))
                centre = feature_map[:, :, feature_map.shape[2] // 2, feature_map.shape[3] // 2]
                (gradient,) = torch.autograd.grad(centre.relu().sum(), pixels)
            scores = gradient.double().relu().sum((0, 1)).cpu()
            total = scores if total is None else total + scores
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)
    if total is None:
        raise ValueError('images must hold at least one image, but there is none')
    if not torch.isfinite(total).all():
        raise ValueError('the contributions are not finite: the weights hold NaN or infinity, or overflow')
    if not total.any():
        raise ValueError('no pixel contributes to the centre of the last feature map: every output there is negative')
    return total.numpy()


def last_map(outputs: Any) -> Tensor:
    """The last feature map of what a backbone returns.

    Raises:
        ValueError: It is not of shape (N, C, H, W).
    """
    last = outputs[-1] if isinstance(outputs, Sequence) and outputs else outputs
    if isinstance(last, Tensor) and last.ndim == 4:
        return last
    got = f'shape {tuple(last.shape)}' if isinstance(last, Tensor) else type(last).__name__
    raise ValueError(
        f'the last output of the backbone must be a feature map (N, C, H, W), but it is of {got}: turn its pooling off '
        '(gap_before_final_norm=False, or out_type of a transformer)'
    )


def square_sides(scores: np.ndarray, shares: Sequence[float] = SHARES) -> dict[float, int]:
    """Side, in pixels, of the smallest centred square that holds a share of all contribution.

    Squares have odd sides, are centred on pixel (H // 2, W // 2), and are cut off at the border; a side is at most the
    larger one of the image.

    Args:
        scores: (H, W), not negative, not all zero.
        shares: In (0, 1].

    Returns:
        The side for each share.

    Raises:
        ValueError: ``scores`` or a share is out of these ranges.
    """
    if scores.ndim != 2 or not np.isfinite(scores).all() or scores.min() < 0 or scores.sum() == 0:
        raise ValueError(f'scores must be an (H, W) array of numbers >= 0, not all 0, but got {scores.shape}')
    if any(not 0 < share <= 1 for share in shares):
        raise ValueError(f'shares must lie in (0, 1], but got {tuple(shares)}')
    height, width = scores.shape
    rows, columns = np.ogrid[:height, :width]
    radius = np.maximum(abs(rows - height // 2), abs(columns - width // 2))
    held = np.cumsum(np.bincount(radius.ravel(), weights=scores.ravel()))
    held = held / held[-1]
    # The tolerance is for share 1, which rounding may leave out of reach until the first square of zeros.
    return {share: min(2 * int(np.searchsorted(held, share - 1e-12)) + 1, max(height, width)) for share in shares}


def summarise(scores: np.ndarray, shares: Sequence[float] = SHARES) -> list[dict[str, float]]:
    """A row a share: side of the square on the scores, and on log10(scores + 1), which RepLKNet's table uses.

    The first does not depend on the scale of the scores; the second does, and so on the number of images.

    Returns:
        Rows of ``share``, ``side``, ``area`` (of the square over the image's), ``side_log`` and ``area_log``.

    Raises:
        ValueError: As :func:`square_sides`.
    """
    raw, logarithmic = square_sides(scores, shares), square_sides(np.log10(scores + 1), shares)

    def area(side: int) -> float:
        return min(side, scores.shape[0]) * min(side, scores.shape[1]) / scores.size

    return [
        {
            'share': share,
            'side': raw[share],
            'area': area(raw[share]),
            'side_log': logarithmic[share],
            'area_log': area(logarithmic[share]),
        }
        for share in shares
    ]


def draw_receptive_field(
    scores: np.ndarray,
    sides: Mapping[float, int] | None = None,
    title: str = '',
    decades: float = 4.0,
    width: int = 640,
) -> Figure:
    """The contributions relative to the largest, on a logarithmic scale, with the squares that hold the shares.

    Large maps are shown as the means of blocks of pixels, at most 128 a side.

    Args:
        scores: (H, W), as :func:`contribution` returns them.
        sides: As :func:`square_sides` returns them; None for no squares.
        title: Above the picture.
        decades: Powers of ten that the colours span; what lies below is black.
        width: Of the PNG in pixels; the height is 0.85 times that.
    """
    height_pixels, width_pixels = scores.shape
    figure = new_figure(width, round(0.85 * width))
    axes = figure.subplots()
    cells = _block_means(scores, MAX_CELLS)
    relative = np.maximum(cells / cells.max(), 10.0**-decades)
    image = axes.imshow(
        relative,
        cmap='inferno',
        norm=LogNorm(10.0**-decades, 1),
        extent=(0, width_pixels, height_pixels, 0),
        interpolation='nearest',
    )
    figure.colorbar(image, label='contribution to the centre, relative to the largest (log scale)')
    for (share, side), colour in zip((sides or {}).items(), ('white', 'cyan', 'lime', 'deepskyblue'), strict=False):
        left, top = width_pixels // 2 - side // 2, height_pixels // 2 - side // 2
        xs, ys = np.clip([left, left + side], 0, width_pixels), np.clip([top, top + side], 0, height_pixels)
        axes.plot(
            [xs[0], xs[1], xs[1], xs[0], xs[0]],
            [ys[0], ys[0], ys[1], ys[1], ys[0]],
            color=colour,
            linewidth=1,
            label=f'{100 * share:g} %: side {side}',
        )
    axes.set_xlabel('x (pixels)')
    axes.set_ylabel('y (pixels)')
    axes.set_title(title)
    axes.set_xlim(0, width_pixels)
    axes.set_ylim(height_pixels, 0)
    if sides:
        axes.legend(loc='upper right', fontsize='small', framealpha=0.6, facecolor='grey', labelcolor='white')
    return figure


def _block_means(scores: np.ndarray, most: int) -> np.ndarray:
    """Means over the smallest square blocks that leave at most ``most`` a side; a last, partial block is cut short."""
    block = -(-max(scores.shape) // most)
    if block == 1:
        return scores
    starts = [np.arange(0, length, block) for length in scores.shape]
    sums = np.add.reduceat(np.add.reduceat(scores, starts[0], axis=0), starts[1], axis=1)
    heights, widths = (np.diff([*first, length]) for first, length in zip(starts, scores.shape, strict=True))
    return sums / np.outer(heights, widths)


def _size(batch: Tensor) -> str:
    return f'{batch.shape[3]} x {batch.shape[2]}'
