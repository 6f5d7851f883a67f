"""Counting the configs of the paper's rows: the work of ``tools/analysis_tools/published_rows.py``."""

from __future__ import annotations

import copy
from pathlib import Path

from mmengine.config import Config

from ..analysis.complexity import Complexity
from ..analysis.published_rows import COCO, ROWS, SPARSITY, render_table
from .atomic import write_text_atomic
from .config import load_config
from .count_config import count_config
from .errors import OutputError

START, END = '<!-- table: begin -->', '<!-- table: end -->'


def count_published_rows(folder: Path) -> tuple[dict[str, Complexity], Complexity]:
    """Count all rows from their configs.

    Args:
        folder: Where the configs lie.

    Returns:
        The counts of each row, by the stem of its config; and those of the ConvNeXt-T detector that the paper compares
        with, dense.

    Raises:
        ConfigError: A config is missing or cannot be counted.
    """
    counts = {row.config: count_config(load_config(folder / f'{row.config}.py'), row.shape, SPARSITY) for row in ROWS}
    detector = load_config(folder / 'cascade_mask_rcnn_pelk_t_coco.py')
    return counts, count_config(with_convnext_tiny(detector), COCO, sparsity=0.0)


def with_convnext_tiny(cfg: Config) -> Config:
    """A copy of a detector's config with mmpretrain's ConvNeXt-T for its backbone, and a neck that fits it."""
    cfg = copy.deepcopy(cfg)
    cfg.model.backbone = {
        'type': 'mmpretrain.ConvNeXt',
        'arch': 'tiny',
        'out_indices': [0, 1, 2, 3],
        'gap_before_final_norm': False,
    }
    cfg.model.neck.in_channels = [96, 192, 384, 768]
    return cfg


def published_table(folder: Path) -> str:
    """Count all rows and set them beside the paper's, as Markdown; see :func:`count_published_rows`."""
    return render_table(*count_published_rows(folder))


def write_table(page: Path, table: str) -> None:
    """Replace the table on a page, between its two marks.

    Raises:
        OutputError: The page is missing, has not the marks, or cannot be written.
    """
    try:
        text = page.read_text()
        before, _, rest = text.partition(START)
        _, end, after = rest.partition(END)
        if not end:
            raise OutputError(f'{page} has no place for the table: {START} and {END}')
        write_text_atomic(page, f'{before}{START}\n{table}\n{END}{after}')
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f'{page} cannot be rewritten: {error}') from error
