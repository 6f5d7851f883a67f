"""The networks of ``docs/nets/zoo.md`` with what their authors publish, and the table that sets ours beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...analysis.counting.published_figures import FORMS, IMAGENET, ROWS, PublishedRow, as_printed
from ...utils.markdown import markdown
from ..harness import Measured
from ..tables import milliseconds, three_digits
from .forms import by_groups, deployed

Source = Literal['paper', 'README', 'note']


@dataclass(frozen=True)
class Entry:
    """A network of the table.

    Attributes:
        name: Of the row.
        config: A classifier's file in ``configs/``, without the suffix.
        overrides: What differs from it, by dotted names.
        published: Its authors' parameters and FLOPs, where there are any.
        top1: Its authors' accuracy on ImageNet-1K at 224 pixels, trained on nothing else.
        source: Where ``top1`` is printed, as :class:`PublishedRow` says.
    """

    name: str
    config: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    published: PublishedRow | None = None
    top1: float | None = None
    source: Source = 'paper'

    @property
    def ours(self) -> bool:
        """Whether the backbone is this package's."""
        return 'model.backbone' not in self.overrides


@dataclass(frozen=True)
class Counts:
    """Of one classifier.

    Attributes:
        params: As built for training, zeros included.
        macs: Multiply-adds of one image through the deployed form.
    """

    params: int
    macs: int


def _mmpretrain(kind: str, channels: int, **arguments: Any) -> Mapping[str, Any]:
    """mmpretrain's backbone in place of a config's."""
    return {
        'model.backbone': {'_delete_': True, 'type': f'mmpretrain.{kind}', **arguments},
        'model.neck': {'type': 'GlobalAveragePooling'},
        'model.head.in_channels': channels,
    }


_CONVNEXT_T = _mmpretrain('ConvNeXt', 768, arch='tiny', gap_before_final_norm=False)
_REPLKNET_31B = _mmpretrain('RepLKNet', 1024, arch='31B')
_SWIN_T = _mmpretrain('SwinTransformer', 768, arch='tiny', pad_small_map=True)  # windows of 7, whatever the image
#: Beside :data:`~pelk_mm.analysis.counting.published_figures.ROWS`: mmpretrain's networks.
REFERENCES = (
    PublishedRow('ConvNeXt-T', 'slak_t_imagenet', IMAGENET, 28, 4.5, 'README', 'dense', _CONVNEXT_T),
    PublishedRow('RepLKNet-31B', 'slak_t_imagenet', IMAGENET, 79, 15.3, 'README', 'deployed', _REPLKNET_31B),
    PublishedRow('Swin-T', 'slak_t_imagenet', IMAGENET, 28, 4.5, 'README', 'dense', _SWIN_T),
)
_PUBLISHED = {row.name: row for row in (*ROWS, *REFERENCES)}


def _published(name: str, top1: float, source: Source = 'README') -> Entry:
    row = _PUBLISHED[name]
    return Entry(name, row.config, row.overrides, row, top1, source)


ENTRIES = (
    _published('PeLK-T', 82.6, 'paper'),
    _published('PeLK-S', 83.9, 'paper'),
    _published('PeLK-B', 84.2, 'paper'),
    _published('SW-T', 83.39),
    _published('SW-S', 83.9, 'note'),
    _published('SLaK-T', 82.5),
    _published('SLaK-S', 83.8),
    _published('SLaK-B', 84.0),
    Entry(
        'RepLK-51-T',
        'slak_t_imagenet',
        {'model.backbone.type': 'pelk_mm.RepLK51', 'model.head.in_channels': 768},
    ),
    _published('UniRepLKNet-A', 77.0),
    _published('UniRepLKNet-F', 78.6),
    _published('UniRepLKNet-P', 80.2),
    _published('UniRepLKNet-N', 81.6),
    _published('UniRepLKNet-T', 83.2),
    _published('UniRepLKNet-S', 83.9),
    _published('InceptionNeXt-T', 82.3),
    _published('InceptionNeXt-S', 83.5),
    _published('InceptionNeXt-B', 84.0),
    _published('WTConvNeXt-T', 82.5),
    _published('WTConvNeXt-S', 83.6),
    _published('WBMM-N', 81.7),
    _published('WBMM-T', 83.2),
    _published('WBMM-S', 83.9),
    _published('OverLoCK-T', 84.2),
    _published('OverLoCK-B', 85.1),
    _published('UniConvNet-A', 77.0),
    _published('UniConvNet-P1', 79.6),
    _published('UniConvNet-P2', 80.5),
    _published('UniConvNet-N0', 81.6),
    _published('UniConvNet-N1', 82.2),
    _published('UniConvNet-N2', 82.7),
    _published('UniConvNet-N3', 83.2),
    _published('UniConvNet-T', 84.2),
    _published('UniConvNet-S', 84.5),
    _published('UniConvNet-B', 85.0),
    _published('ConvNeXt-T', 82.1),
    _published('RepLKNet-31B', 83.5),
    _published('Swin-T', 81.2),
)
SHIFTWISE, UNIREP = 'SW-T', 'UniRepLKNet-T'


def runs(entries: Iterable[Entry]) -> list[tuple[Entry, ...]]:
    """Which networks are timed in turn: each one's forms, and SW-T with what it is compared with."""
    entries = tuple(entries)
    compared = tuple(entry for entry in entries if entry.name in (SHIFTWISE, UNIREP))
    alone: list[tuple[Entry, ...]] = [(entry,) for entry in entries if entry not in compared]
    return [compared, *alone] if compared else alone


def render_zoo(counts: Mapping[str, Counts], timed: Measured, batch: int, configs: str = '../../configs') -> str:
    """Markdown: a line for each counted network of :data:`ENTRIES`, what SW-T is compared with, and what is missing.

    Args:
        counts: By name.
        timed: The timings, under the names that :mod:`.forms` gives them, and reasons where there are none.
        batch: Images a call.
        configs: Where the configs lie, seen from the page.
    """
    header = (
        'network',
        'config',
        'parameters as trained, M',
        'MACs deployed, G',
        'published: parameters, FLOPs',
        "published top-1, the authors'",
        'images/s here, deployed',
        'deploy gain',
    )
    rows = [_row(entry, counts[entry.name], timed, batch, configs) for entry in ENTRIES if entry.name in counts]
    lines = [markdown(header, rows), '', *comparisons(timed)]
    lines += [f'- {name} is left out: {reason}' for name, reason in timed.skipped.items()]
    return '\n'.join(lines).rstrip()


def comparisons(timed: Measured) -> list[str]:
    """SW-T against the loop over shifted groups, and against UniRepLKNet-T; lines for what was timed."""
    trained, merged = timed.median(SHIFTWISE), timed.median(deployed(SHIFTWISE))
    loop, rival = timed.median(by_groups(SHIFTWISE)), timed.median(deployed(UNIREP))
    lines = []
    if loop and trained and merged:
        lines.append(
            f'- {SHIFTWISE} against a loop that adds every shifted group by itself ({milliseconds(loop)} ms): '
            f'{three_digits(loop / trained)} times as fast as trained ({milliseconds(trained)} ms), '
            f'{three_digits(loop / merged)} times deployed ({milliseconds(merged)} ms).'
        )
    if rival and merged:
        lines.append(
            f'- {SHIFTWISE} against {UNIREP}, both deployed: {three_digits(rival / merged)} of its images/s '
            f'({milliseconds(merged)} ms and {milliseconds(rival)} ms).'
        )
    return lines


def _row(entry: Entry, counted: Counts, timed: Measured, batch: int, configs: str) -> Sequence[str]:
    trained, merged = timed.median(entry.name), timed.median(deployed(entry.name))
    fastest = merged or trained
    return (
        entry.name,
        _config(entry, configs),
        f'{counted.params / 1e6:.2f}',
        f'{counted.macs / 1e9:.2f}',
        '-' if entry.published is None else _figures(entry.published),
        '-' if entry.top1 is None else f'{entry.top1} ({entry.source})',
        '-' if fastest is None else three_digits(batch / fastest),
        '-' if trained is None or merged is None else three_digits(trained / merged),
    )


def _config(entry: Entry, configs: str) -> str:
    """The config, with what has to be changed in its backbone."""
    if not entry.ours:
        return f"mmpretrain's `{entry.overrides['model.backbone']['type'].rpartition('.')[2]}`"
    prefix = 'model.backbone.'
    changes = [f'`{k.removeprefix(prefix)}={v!r}`' for k, v in entry.overrides.items() if k.startswith(prefix)]
    link = f'[{entry.config.removesuffix("_imagenet")}]({configs}/{entry.config}.py)'
    return ', '.join([link, *changes])


def _figures(row: PublishedRow) -> str:
    return f'{row.params:g} M, {as_printed(row.gmacs)} G ({FORMS[row.form]}; {row.source})'
