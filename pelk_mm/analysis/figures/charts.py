"""What all figures share: a matplotlib ``Figure`` of given pixels, its PNG, and its numbers as CSV.

Figures are drawn on the Agg canvas without ``pyplot``, so that nothing outside them is touched: no global figure list,
no back-end choice, no style.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 100


def new_figure(width: int, height: int) -> Figure:
    """An empty figure of ``width`` x ``height`` pixels, laid out so that labels do not overlap.

    Raises:
        ValueError: A side below 100 pixels, where no label would fit.
    """
    if min(width, height) < 100:
        raise ValueError(f'a figure needs sides of at least 100 pixels, but got {width} x {height}')
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG; the same figure always gives the same bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert('RGB').save(buffer, 'PNG', optimize=True)
    return buffer.getvalue()


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV, the keys as its header.

    Raises:
        ValueError: There is no row, or the keys differ.
    """
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise ValueError(f'rows must be at least one and have the same keys, but got {[list(row) for row in rows][:2]}')
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
