"""One method, three backbones, one word."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .children import Failure, Limits, Note, Result, first_line, run_limited
from .configs import MOST_CONFIGS, Method
from .samples import image_channels
from .swap import CONVNEXT, PELK, Fit, at, backbone_config, find_backbones, fit, read_outputs, replace_backbones
from .trial import NothingToTryError, read_model, train_and_predict

#: Pixels a side; the next one where the original fails.
SIZES = (128, 224, 256, 320)
PASSES, ORIGINAL_FAILS, TIED, NO_BACKBONE, OURS = 'passes', 'original fails', 'tied', 'no backbone', 'OURS'


@dataclass(frozen=True)
class Row:
    """What became of a method.

    Attributes:
        toolbox: That ships it.
        method: Its name.
        config: The file that was tried.
        verdict: 'passes', 'original fails', 'tied', 'no backbone' or 'OURS'.
        reason: Of a verdict that is not 'passes'.
        size: Pixels a side of the images.
        pelk: 'passes', the error, or '' where PeLK was not tried.
        convnext: The same for mmpretrain's ConvNeXt.
        backbone: PeLK's dict.
        note: What else is to be known.
        unused: Parameters outside PeLK that get no gradient, as without PeLK.
        unused_in_backbone: PeLK's parameters that get none.
    """

    toolbox: str
    method: str
    config: str
    verdict: str
    reason: str = ''
    size: int = 0
    pelk: str = ''
    convnext: str = ''
    backbone: dict[str, Any] | None = None
    note: str = ''
    unused: int = 0
    unused_in_backbone: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def judge(original: Failure | None, convnext: Failure | None, pelk: Failure | None) -> tuple[str, str]:
    """The verdict on three trials, None for one that passed, and its reason.

    'tied' takes the same kind of error at the same step with ConvNeXt: a head or neck that takes no other backbone than
    its own. A limit of time or memory ties nothing.
    """
    if original is not None:
        return ORIGINAL_FAILS, str(original)
    if pelk is None:
        return PASSES, ''
    return (TIED if pelk.is_like(convnext) else OURS), str(pelk)


def try_method(method: Method, limits: Limits) -> Row:
    """Try a method with its own backbone, with ConvNeXt and with PeLK, each in a process of its own."""
    row = functools.partial(Row, method.toolbox, method.name)
    first: tuple[Path, int, Failure] | None = None
    for config, size, result in _originals(method, limits):
        if result.failure is None:
            return _with_original(row, method.toolbox, config, size, result, limits)
        if first is None or first[2].kind == NothingToTryError.__name__:
            first = config, size, result.failure
    if first is None:
        return row('', NO_BACKBONE, 'the folder has no config')
    config, size, failure = first
    if failure.kind == NothingToTryError.__name__:
        return row(config.name, NO_BACKBONE, failure.reason)
    measured = run_limited(functools.partial(_measure, config=config, toolbox=method.toolbox, size=size), limits)
    trials = _swapped(method.toolbox, config, size, measured, limits)
    return row(
        config.name,
        ORIGINAL_FAILS,
        str(failure),
        size,
        _word(trials.get(PELK)),
        _word(trials.get(CONVNEXT)),
        None if measured.failure else measured.value[1][PELK],
    )


def try_methods(methods: Sequence[Method], limits: Limits, jobs: int, tell: Callable[[Row], None]) -> list[Row]:
    """Try methods, ``jobs`` at once.

    Args:
        methods: In the order of the rows.
        limits: Of each trial.
        jobs: At least 1.
        tell: Called with each row, in order, as soon as it and those before it are there.
    """
    if jobs == 1:
        return _told(map(functools.partial(try_method, limits=limits), methods), tell)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return _told(pool.map(functools.partial(try_method, limits=limits), methods), tell)
        except BaseException:
            limits.stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _told(rows: Iterable[Row], tell: Callable[[Row], None]) -> list[Row]:
    found = []
    for row in rows:
        tell(row)
        found.append(row)
    return found


def _originals(method: Method, limits: Limits) -> Iterator[tuple[Path, int, Result]]:
    """Trials of the original, up to the first that passes: each size where it can be built, then the next config."""
    tried = 0
    for config in method.configs:
        for size in SIZES:
            trial = functools.partial(_original, config=config, toolbox=method.toolbox, size=size)
            result = run_limited(trial, limits)
            yield config, size, result
            if result.failure is not None and not _depends_on_size(result.failure):
                break
        if result.failure is None or result.failure.kind != NothingToTryError.__name__:
            tried += 1
        if tried == MOST_CONFIGS:
            return


def _depends_on_size(failure: Failure) -> bool:
    return failure.step not in ('start', 'read', 'build') and failure.kind not in (
        'NotImplementedError',
        'ImportError',
        'TimeoutError',
        'MemoryError',
        'Killed',
    )


def _original(note: Note, config: Path, toolbox: str, size: int) -> Any:
    train_and_predict(note, config, toolbox, size)
    try:
        return _measure(note, config, toolbox, size)
    except Exception as error:  # whatever the backbone raises: the method has passed
        return Failure('backbone alone', type(error).__name__, first_line(error))


def _measure(note: Note, config: Path, toolbox: str, size: int) -> tuple[Fit, dict[str, Any], str]:
    """The original backbone's outputs, the dicts that have the same ones, and a note on what is kept."""
    note('read')
    cfg = read_model(config, toolbox, size)
    original = at(cfg.model, find_backbones(cfg.model)[0])
    note('backbone')
    shapes, size = _outputs(original, size, image_channels(cfg))
    found = fit(shapes, size)
    notes = [f'{len(shapes)} outputs, of which four can be had'] if len(shapes) > 4 else []
    _, kept = replace_backbones(cfg.model, {})
    if kept:
        notes.append(f'{kept} other backbone{"s" if kept > 1 else ""} kept')
    if cfg.get('find_unused_parameters'):
        notes.append('find_unused_parameters=True')
    return found, {kind: backbone_config(kind, found, original) for kind in (PELK, CONVNEXT)}, '; '.join(notes)


def _outputs(backbone: Mapping[str, Any], size: int, channels: int) -> tuple[list[tuple[int, ...]], int]:
    """Shapes of the outputs at the smallest size that the backbone takes, and that size.

    A pipeline may have cropped the images that the method was trained on.
    """
    for other in SIZES:
        with suppress(RuntimeError, AssertionError, ValueError):
            return read_outputs(backbone, other, channels), other
    return read_outputs(backbone, size, channels), size


def _swapped(toolbox: str, config: Path, size: int, measured: Result, limits: Limits) -> Mapping[str, Result]:
    """The trials with PeLK and with ConvNeXt; none where the original backbone could not be measured."""
    if measured.failure is not None:
        return {}
    trials = {}
    for kind, backbone in measured.value[1].items():
        trial = functools.partial(train_and_predict, config=config, toolbox=toolbox, size=size, backbone=backbone)
        trials[kind] = run_limited(trial, limits)
    return trials


def _with_original(
    row: Callable[..., Row], toolbox: str, config: Path, size: int, original: Result, limits: Limits
) -> Row:
    measured = original.value
    if isinstance(measured, Failure):
        return row(config.name, NO_BACKBONE, str(measured), size)
    trials = _swapped(toolbox, config, size, Result(measured), limits)
    pelk, convnext = trials[PELK], trials[CONVNEXT]
    verdict, reason = judge(None, convnext.failure, pelk.failure)
    used = pelk.value or {}
    words = _word(pelk), _word(convnext)
    return row(config.name, verdict, reason, size, *words, measured[1][PELK], measured[2], **used)


def _word(result: Result | None) -> str:
    if result is None:
        return ''
    return PASSES if result.failure is None else str(result.failure)
