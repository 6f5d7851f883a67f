"""Time of one convolution against the size of its kernel and against the size of the map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from ...analysis.figures.charts import new_figure
from ...utils.markdown import markdown
from ..harness import Measured, Timing, above
from ..tables import milliseconds
from .measure import benchmark_op
from .variants import FLOOR, op_variants

#: What the curves show of all variants, where it is there, with its label and colour.
LINES = {
    'stock': ('F.conv2d, contiguous', 'tab:red'),
    'stock nhwc': ('F.conv2d, channels-last', 'tab:orange'),
    'auto': ('peripheral, automatic choice', 'tab:blue'),
    'fft': ('peripheral, fft', 'tab:cyan'),
    'triton': ('peripheral, triton', 'tab:green'),
    'stock 7x7': ('7 x 7, contiguous', 'tab:purple'),
    'stock 7x7 nhwc': ('7 x 7, channels-last', 'tab:pink'),
    FLOOR: ('device copy', 'tab:grey'),
}
AXES = {'kernel_size': 'kernel size K (pixels)', 'size': 'height and width of the map (pixels)'}


@dataclass(frozen=True)
class Point:
    """One run of :func:`.measure.benchmark_op` at ``value`` of a sweep's axis."""

    value: int
    result: Measured


def central_size(kernel_size: int) -> int:
    """The paper's centre: 5 for PeLK's kernels, 7 for PeLK-101's."""
    return 7 if kernel_size > 100 else 5


def sweep(
    axis: str,
    values: Sequence[int],
    options: Mapping[str, Any],
    *,
    limit: float,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Point]:
    """Time :data:`LINES` at each of ``values``.

    A variant that takes more than ``limit`` seconds a call is not timed, there and at every larger value.

    Args:
        axis: 'kernel_size' or 'size', a key of :data:`AXES`.
        values: Rising; kernel sizes are odd.
        options: Of :func:`.measure.benchmark_op`, the other one of 'kernel_size' and 'size' among them (a map's
            size as one number), the central size not: it is the paper's.
        limit: Seconds a call.
        progress: Told what comes next.

    Raises:
        ValueError: An unknown axis, or values that do not rise.
        GateError: A back-end gives wrong numbers.
    """
    if axis not in AXES:
        raise ValueError(f'axis must be one of {", ".join(AXES)}, but got {axis!r}')
    if not values or list(values) != sorted(set(values)):
        raise ValueError(f'values must rise, but got {tuple(values)}')
    names = [name for name in LINES if name in op_variants()]
    slow: set[str] = set()
    points = []
    for value in values:
        settings = dict(options) | {axis: value}
        side = settings.pop('size')
        progress(f'{axis.replace("_", " ")} {value}{", forward + backward" if settings.get("backward") else ""}')
        result = benchmark_op(
            **settings,
            size=(side, side),
            central_size=central_size(settings['kernel_size']),
            limit=limit,
            variants=[name for name in names if name not in slow],
        )
        slow |= {name for name, reason in result.skipped.items() if reason == above(limit)}
        result.skipped |= dict.fromkeys(slow, above(limit))
        points.append(Point(value, result))
    return points


def sweep_table(axis: str, points: Sequence[Point]) -> str:
    """Medians in milliseconds, a row for each value; what was not timed says so, with its reason below."""
    names = [name for name in LINES if any(t.name == name for p in points for t in p.result.timings)]
    rows = []
    for point in points:
        medians = {timing.name: milliseconds(timing.median) for timing in point.result.timings}
        rows.append([str(point.value), *(medians.get(name, 'not run') for name in names)])
    reasons: dict[tuple[str, str], list[int]] = {}
    for point in points:
        for name, why in point.result.skipped.items():
            reasons.setdefault((name, why), []).append(point.value)
    below = [f'- {name} at {", ".join(map(str, values))}: {why}' for (name, why), values in reasons.items()]
    table = markdown(['K' if axis == 'kernel_size' else 'map', *names], rows)
    return '\n'.join([table, *(['', *below] if below else [])])


def sweep_rows(axis: str, backward: bool, points: Sequence[Point]) -> Iterator[dict[str, Any]]:
    """Every timing of a sweep with its spread, for a CSV."""
    for point in points:
        for t in point.result.timings:
            yield {
                'axis': axis,
                'value': point.value,
                'backward': int(backward),
                'variant': t.name,
                'median_ms': f'{1e3 * t.median:.5g}',
                'min_ms': f'{1e3 * t.minimum:.5g}',
                'max_ms': f'{1e3 * t.maximum:.5g}',
                'samples': t.repeats,
                'calls': t.calls,
                'error': '' if t.error is None else f'{t.error:.2e}',
                'peak_bytes': '' if t.peak_bytes is None else t.peak_bytes,
            }


def draw_sweep(axis: str, forward: Sequence[Point], both: Sequence[Point], title: str, width: int = 900) -> Figure:
    """Two panels over the axis: forward, and forward with the gradients; medians, shaded from lowest to highest."""
    figure = new_figure(width, round(0.5 * width))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, points, what in zip(panels, (forward, both), ('forward', 'forward + gradients'), strict=True):
        for name, (label, colour) in LINES.items():
            line: list[tuple[int, Timing]] = [
                (point.value, timing) for point in points for timing in point.result.timings if timing.name == name
            ]
            if not line:
                continue
            values = [value for value, _ in line]
            axes.plot(values, [1e3 * t.median for _, t in line], 'o-', color=colour, markersize=3, label=label)
            low, high = [1e3 * t.minimum for _, t in line], [1e3 * t.maximum for _, t in line]
            axes.fill_between(values, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_yscale('log')
        axes.set_title(what, fontsize='medium')
        axes.set_xlabel(AXES[axis])
        axes.set_xticks([point.value for point in points])
        axes.grid(alpha=0.3)
        axes.yaxis.set_major_formatter('{x:g}')
    panels[0].set_ylabel('milliseconds a call')
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=4, fontsize='small')
    figure.suptitle(title)
    return figure
