"""What became of all methods, as lines for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from ...utils.markdown import markdown
from .distributed import DistributedRow
from .verdicts import NO_BACKBONE, ORIGINAL_FAILS, OURS, PASSES, TIED, Row

#: The least share of the methods that count that should pass, and the least number of those in two processes.
BAR, DISTRIBUTED_BAR = 95.0, 20
_LONGEST_REASON = 110


def line(row: Row) -> str:
    """A method in one line."""
    end = f' ({row.reason})' if row.reason else ''
    if row.verdict == ORIGINAL_FAILS and row.pelk:
        end += f' [with PeLK: {row.pelk}]'
    return f'{row.toolbox} {row.method}: {row.verdict}{end}{f" [{row.note}]" if row.note else ""}'


def distributed_line(row: DistributedRow) -> str:
    """A method in two processes, in one line."""
    return f'{row.toolbox} {row.method}, two processes: {row.result}'


def share(rows: Sequence[Row]) -> tuple[int, int]:
    """How many pass, and of how many: those whose original passes, that have a backbone and are not tied to it."""
    passing = sum(row.verdict == PASSES for row in rows)
    return passing, passing + sum(row.verdict == OURS for row in rows)


def summary(rows: Sequence[Row], distributed: Sequence[DistributedRow] = ()) -> list[str]:
    """Sentences that sum up; the last one is the share that passes.

    Args:
        rows: Of all methods.
        distributed: Of those that ran in two processes.
    """
    lines = []
    passing = [row for row in rows if row.verdict == PASSES]
    if passing:
        whole = sum(not row.unused_in_backbone for row in passing)
        lines.append(f'Every parameter of PeLK gets a gradient in {whole} of {len(passing)} methods that pass.')
    if distributed:
        good = sum(row.result == PASSES for row in distributed)
        lines.append(
            f'In two processes {good} of {len(distributed)} methods train with PeLK (the bar: {DISTRIBUTED_BAR}).'
        )
    good, counted = share(rows)
    per_cent = f', {100 * good / counted:.1f} %' if counted else ''
    lines.append(f'{good} of {counted} methods pass{per_cent} (the bar: {BAR:g} %).')
    return lines


def tables(rows: Sequence[Row], distributed: Sequence[DistributedRow]) -> str:
    """Counts, the names of what passes, and a row with its reason for each that does not, in Markdown."""
    verdicts = (PASSES, OURS, TIED, ORIGINAL_FAILS, NO_BACKBONE)
    toolboxes = [(name, list(group)) for name, group in groupby(rows, key=lambda row: row.toolbox)]
    counts = [
        [name, str(len(group)), *(str(sum(row.verdict == verdict for row in group)) for verdict in verdicts)]
        for name, group in toolboxes
    ]
    parts = [markdown(['toolbox', 'methods', *verdicts], counts, aligned=False)]
    passing = [[name, _names(row for row in group if row.verdict == PASSES)] for name, group in toolboxes]
    parts += [' '.join(summary(rows, distributed)), markdown(['toolbox', 'passes'], passing, aligned=False)]
    others = [
        [f'{row.toolbox} {row.method}', row.verdict, _cell(row.reason), _cell(row.pelk) if _is_told(row) else '']
        for row in rows
        if row.verdict != PASSES
    ]
    if others:
        parts.append(markdown(['method', 'verdict', 'reason', 'with PeLK'], others, aligned=False))
    if distributed:
        parts.append(
            markdown(
                ['in two processes', 'methods'],
                [
                    ['passes', _names(row for row in distributed if row.result == PASSES)],
                    *(
                        [f'{row.toolbox} {row.method}', _cell(row.result)]
                        for row in distributed
                        if row.result != PASSES
                    ),
                ],
                aligned=False,
            )
        )
    return '\n\n'.join(parts)


def _is_told(row: Row) -> bool:
    return row.verdict == ORIGINAL_FAILS


def _names(rows: Iterable[Row | DistributedRow]) -> str:
    return ', '.join(row.method for row in rows)


def _cell(text: str) -> str:
    """Text that cannot be read as a link, a path of the repository or the end of a cell."""
    short = text if len(text) <= _LONGEST_REASON else f'{text[:_LONGEST_REASON]} ...'
    return f'`{short.replace("|", "/").replace("`", chr(39))}`' if short and short != PASSES else short
