"""The table of one convolution's timings."""

from __future__ import annotations

from ..harness import Measured
from ..tables import error_of, ratio, timing_table
from .variants import FLOOR, STOCK


def op_table(result: Measured) -> str:
    """Rows of :func:`.measure.benchmark_op`: how much faster than stock, contiguous and in the
    better layout, and how far from a copy."""
    stock, floor = result.median(*STOCK), result.median(FLOOR)
    columns = [
        ('stock / it', [ratio(result.median('stock'), t.median) for t in result.timings]),
        ('best stock / it', [ratio(stock, t.median) for t in result.timings]),
        ('it / copy', [ratio(t.median, floor) for t in result.timings]),
        ('error', [error_of(t) for t in result.timings]),
    ]
    return timing_table('variant', result, columns)
