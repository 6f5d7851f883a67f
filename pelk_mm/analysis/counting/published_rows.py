"""Counting the configs of published rows: the work of ``tools/analysis_tools/published_rows.py``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config

from ...engine.config import load_config
from ...sparsity.weights import maskable_weights
from ...utils.markdown import markdown
from .complexity import Complexity
from .count_config import build_counted, count_config
from .paper_convention import is_sparse
from .published_figures import COCO, CONVNEXT_T_GMACS, FORMS, ROWS, SPARSITY, Form, as_printed

_HEADER = (
    *('model', 'image', 'counted', 'source'),
    *('parameters: published', 'ours'),
    *('FLOPs: published', 'ours', ''),
    *('over ConvNeXt-T: published', 'ours'),
)


def count_published_rows(folder: Path) -> tuple[dict[str, Complexity], Complexity]:
    """Count all rows from their configs.

    Args:
        folder: Where the configs lie.

    Returns:
        The counts of each row, by its name; and those of the ConvNeXt-T detector that the PeLK paper compares with,
        dense.

    Raises:
        ConfigError: A config is missing or cannot be counted.
    """
    counts = {
        row.name: count_form(load_config(folder / f'{row.config}.py', row.overrides), row.shape, row.form)
        for row in ROWS
    }
    detector = load_config(folder / 'cascade_mask_rcnn_pelk_t_coco.py')
    return counts, count_config(with_convnext_tiny(detector), COCO, sparsity=0.0)


def count_form(cfg: Config, shape: Sequence[int], form: Form) -> Complexity:
    """Count a config in the form that published figures describe.

    In every form but the deployed one the multiply-adds of the backbone are those of its convolutions, window products
    and linears, without parallel 5x5 branches.

    Args:
        cfg: The config.
        shape: (H, W).
        form: One of :data:`~pelk_mm.analysis.counting.published_figures.FORMS`.

    Returns:
        The counts; ``params_nonzero`` are the parameters of that form.

    Raises:
        ConfigError: The config cannot be counted so.
    """
    if form == 'deployed':
        return count_config(cfg, shape, deploy=True)
    if form == 'merged':
        cfg = copy.deepcopy(cfg)
        cfg.model.backbone.rep_paths = 1
    counted = count_config(cfg, shape, SPARSITY if form in ('pelk', 'slak') else 0.0)
    if form == 'pelk':
        return counted
    return replace(counted, params_nonzero=counted.params - (_zeros(cfg) if form == 'slak' else 0))


def _zeros(cfg: Config) -> int:
    """How many weights the sparsity hook holds at zero where training is sparse."""
    model = build_counted(cfg)
    masked = [weight for name, weight in maskable_weights(model).items() if is_sparse(model, name)]
    return round(SPARSITY * sum(weight.numel() for weight in masked))


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
    """Count all rows and set them beside what is published, as Markdown; see :func:`count_published_rows`."""
    return render_table(*count_published_rows(folder))


def render_table(counts: Mapping[str, Complexity], convnext: Complexity) -> str:
    """Markdown: one line a row, the published figures beside ours.

    Args:
        counts: By ``name``, the counts of every row in its form.
        convnext: Cascade Mask R-CNN with ConvNeXt-T by the same convention, dense.

    Raises:
        KeyError: A row was not counted.
    """
    rows = []
    for row in ROWS:
        counted = counts[row.name]
        over = ('', '')
        if row.shape == COCO and row.form == 'pelk':
            over = f'+{row.gmacs - CONVNEXT_T_GMACS:g} G', f'+{(counted.macs - convnext.macs) / 1e9:.1f} G'
        net = [row.name, f'{row.shape[0]}x{row.shape[1]}', FORMS[row.form], row.source]
        params = f'{row.params:g} M', f'{counted.params_nonzero / 1e6:.2f} M'
        rows.append([*net, *params, *_flops(row.gmacs, counted.macs), *over])
    net = ['Cascade Mask R-CNN ConvNeXt-T', f'{COCO[0]}x{COCO[1]}', FORMS['dense'], 'paper']
    params = '', f'{convnext.params / 1e6:.2f} M'
    rows.append([*net, *params, *_flops(CONVNEXT_T_GMACS, convnext.macs), '', ''])
    return markdown(_HEADER, rows, aligned=False)


def _flops(published: float, macs: int) -> tuple[str, str, str]:
    """Published, ours, by how much ours is more."""
    gmacs = macs / 1e9
    ours = f'{gmacs:.1f}' if published >= 100 else f'{gmacs:.2f}'
    return f'{as_printed(published)} G', f'{ours} G', f'{100 * (gmacs / published - 1):+.1f} %'
