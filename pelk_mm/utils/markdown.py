"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], aligned: bool = True) -> str:
    """A Markdown table.

    Args:
        header: Titles of the columns.
        rows: Their cells.
        aligned: Pad the cells, so that it is as readable in a terminal: the first column to the left, the others to
            the right. Without, a change of one cell changes one line of a page.

    Raises:
        ValueError: A row has another number of cells than the header.
    """
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f'every row must have {len(header)} cells, but got {[len(row) for row in rows]}')
    if not aligned:
        lines = [''.join(f'| {cell} ' if cell else '| ' for cell in row) + '|' for row in (header, *rows)]
        return '\n'.join([lines[0], '|' + '---|' * len(header), *lines[1:]])
    widths = [max(3, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        padded[0] = cells[0].ljust(widths[0])
        return f'| {" | ".join(padded)} |'

    rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
    return '\n'.join([line(header), line(rule), *map(line, rows)])
