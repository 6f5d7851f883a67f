"""Timings as Markdown tables, with ratios and what was not timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..utils.markdown import markdown
from .harness import Measured, Timing

#: Beside the timings of one run.
Column = tuple[str, Sequence[str]]


def net_table(result: Measured, batch: int, baseline: str = 'pelk') -> str:
    """Rows of the benchmarks of nets: images a second, and the baseline's time over its own."""
    base = result.median(baseline)
    columns = [
        ('images/s', [three_digits(batch / t.median) for t in result.timings]),
        (f'{baseline} / it', [ratio(base, t.median) for t in result.timings]),
    ]
    if any(t.error is not None for t in result.timings):
        columns.append(('error', [error_of(t) for t in result.timings]))
    if any(t.kept_bytes is not None for t in result.timings):
        columns.append(('kept for backward, MiB', [_mebibytes(t.kept_bytes) for t in result.timings]))
    return timing_table('net', result, columns)


def operator_table(result: Measured) -> str:
    """Rows of the benchmark of operators: time and kept memory over those of the plain form, the row behind each."""
    pairs = [(timing, result.timings[i + 1 - i % 2]) for i, timing in enumerate(result.timings)]
    columns = [('of the plain form', [ratio(t.median, plain.median) for t, plain in pairs])]
    if all(t.kept_bytes is not None for t in result.timings):
        columns.append(('kept for backward, MiB', [_mebibytes(t.kept_bytes) for t in result.timings]))
        columns.append(('of the plain form', [ratio(t.kept_bytes, plain.kept_bytes) for t, plain in pairs]))
    return timing_table('operator', result, columns)


def plain_table(result: Measured, baseline: str) -> str:
    """Rows of any run, with the baseline's time over each one's."""
    base = result.median(baseline)
    return timing_table('variant', result, [(f'{baseline} / it', [ratio(base, t.median) for t in result.timings])])


def timing_table(what: str, result: Measured, columns: Sequence[Column]) -> str:
    """A line a timing: its median and range, ``columns``, the peak where known; below it what was not timed."""
    columns = list(columns)
    if any(t.peak_bytes is not None for t in result.timings):
        columns.append(('peak MiB', [_mebibytes(t.peak_bytes) for t in result.timings]))
    rows = [
        [t.name, milliseconds(t.median), f'{milliseconds(t.minimum)} .. {milliseconds(t.maximum)}']
        + [cells[i] for _, cells in columns]
        for i, t in enumerate(result.timings)
    ]
    table = markdown([what, 'median ms', 'min .. max', *(title for title, _ in columns)], rows)
    skipped = [f'- {name} is not timed: {reason}' for name, reason in result.skipped.items()]
    return '\n'.join([table, *(['', *skipped] if skipped else [])])


def ratio(above: float | None, below: float | None) -> str:
    """``above`` over ``below``, or a dash where one of them is not known."""
    return '-' if above is None or below is None else three_digits(above / below)


def error_of(timing: Timing) -> str:
    """A timing's error, or a dash."""
    return '-' if timing.error is None else f'{timing.error:.1e}'


def describe(values: Mapping[str, Any]) -> str:
    """A line of names and values."""
    return ', '.join(f'{name} {value}' for name, value in values.items())


def milliseconds(seconds: float) -> str:
    """To three digits."""
    return three_digits(1e3 * seconds)


def three_digits(value: float) -> str:
    """A positive number, all digits before its point and in all at least three."""
    return f'{value:.0f}' if value >= 100 else f'{value:#.3g}'


def _mebibytes(count: int | None) -> str:
    return '-' if count is None else f'{count / 2**20:.1f}'
