"""A Markdown table of the final scores of finished runs, grouped by net: mean and spread over the seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from ...utils.markdown import markdown


def final_score(work_dir: str | Path, metric: str) -> float:
    """The last value of ``metric`` that a run has logged, e.g. ``'accuracy/top1'`` or ``'mIoU'``.

    Args:
        work_dir: Of a run of the standard train tool; of several starts in it the last that logged ``metric`` counts.
        metric: Key in ``vis_data/scalars.json``.

    Raises:
        FileNotFoundError: No log in ``work_dir``.
        ValueError: A log that is no list of JSON objects, or ``metric`` was never logged; the message lists what was.
    """
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not logs:
        raise FileNotFoundError(f'work directory {work_dir} holds no */vis_data/scalars.json of a run')
    known: set[str] = set()
    for log in reversed(logs):
        try:
            entries = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
        except ValueError as error:
            raise ValueError(f'{log} is not a log of one JSON object a line: {error}') from error
        values = [entry[metric] for entry in entries if metric in entry]
        if values:
            return float(values[-1])
        known.update(key for entry in entries for key in entry)
    raise ValueError(f'metric {metric!r} was never logged in {work_dir}; logged were {", ".join(sorted(known))}')


def run_table(groups: Mapping[str, Sequence[str | Path]], metric: str) -> str:
    """Markdown rows of mean, sample standard deviation, lowest and highest final ``metric`` of each group of runs.

    Raises:
        FileNotFoundError, ValueError: As :func:`final_score`.
    """
    rows = []
    for name, work_dirs in groups.items():
        scores = [final_score(work_dir, metric) for work_dir in work_dirs]
        deviation = f'{stdev(scores):.2f}' if len(scores) > 1 else '-'
        numbers = f'{mean(scores):.2f}', deviation, f'{min(scores):.2f}', f'{max(scores):.2f}'
        rows.append([name, str(len(scores)), *numbers])
    return markdown(['runs', 'number', f'{metric}, mean', 'std', 'lowest', 'highest'], rows, aligned=False)
