"""Multiply-adds of several models, stacked by component (PeLK, arXiv 2403.07589, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .charts import new_figure

#: What the components of :func:`~pelk_mm.analysis.counting.complexity.count_complexity` are called, and their colours.
LABELS = {
    'ffn': 'FFN',
    'large_kernel': 'large kernels',
    'downsample': 'stem and downsampling',
    'pos_embed': 'embedding h',
    'head': 'output norms, neck and heads',
    'other': 'other',
}
COLOURS = dict(zip(LABELS, ('tab:blue', 'tab:red', 'tab:green', 'tab:purple', 'tab:grey', 'tab:brown'), strict=True))
#: A part lower than this share of the tallest bar has no room for its number.
SMALLEST_LABELLED = 0.04


def component_rows(counts: Mapping[str, Mapping[str, int]], head: bool = False) -> list[dict[str, Any]]:
    """A row a model: its multiply-adds by component, and their sum.

    Args:
        counts: For each model its ``macs_by_component``.
        head: Keep what stands behind the backbone's stages; the backbone alone otherwise.

    Returns:
        Rows with the same keys, ``model``, one for each component that any model has, and ``total``.

    Raises:
        ValueError: There is no model, a component has no name in ``LABELS``, or a model has no multiply-adds.
    """
    unknown = {component for macs in counts.values() for component in macs} - LABELS.keys()
    if unknown:
        raise ValueError(f'components must be among {", ".join(LABELS)}, but got {", ".join(sorted(unknown))}')
    shown = [
        component
        for component in LABELS
        if (head or component != 'head') and any(macs.get(component, 0) for macs in counts.values())
    ]
    rows = []
    for model, macs in counts.items():
        parts = {component: macs.get(component, 0) for component in shown}
        if not sum(parts.values()):
            raise ValueError(f'{model} has no multiply-adds to show')
        rows.append({'model': model, **parts, 'total': sum(parts.values())})
    if not rows:
        raise ValueError('counts must hold at least one model, but is empty')
    return rows


def draw_components(rows: Sequence[Mapping[str, Any]], title: str = '', width: int = 900) -> Figure:
    """One bar a model, its components stacked, each with its share; the sum stands above.

    Args:
        rows: As :func:`component_rows` returns them.
        title: Above the bars.
        width: Of the PNG in pixels; the height is 0.55 times that.
    """
    figure = new_figure(width, round(0.55 * width))
    axes = figure.subplots()
    names = [str(row['model']) for row in rows]
    tallest = max(row['total'] for row in rows)
    bottoms = [0.0] * len(rows)
    for component in (key for key in rows[0] if key not in ('model', 'total')):
        heights = [row[component] / 1e9 for row in rows]
        bars = axes.bar(names, heights, 0.6, bottoms, color=COLOURS[component], label=LABELS[component])
        texts = [
            f'{row[component] / row["total"]:.1%}' if row[component] >= SMALLEST_LABELLED * tallest else ''
            for row in rows
        ]
        axes.bar_label(bars, texts, label_type='center', color='white', fontsize='small')
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    for i, total in enumerate(bottoms):
        axes.annotate(f'{total:.1f} G', (i, total), (0, 3), textcoords='offset points', ha='center')
    axes.set_ylim(0, 1.08 * max(bottoms))
    axes.set_xlabel('model')
    axes.set_ylabel('multiply-adds of one image (billions)')
    axes.set_title(title)
    figure.legend(*_from_the_top(axes), loc='outside right upper')
    return figure


def _from_the_top(axes: Any) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return handles[::-1], labels[::-1]
