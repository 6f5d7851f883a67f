"""Timing that can be trusted: a correctness gate, variants in turn, synchronised, medians with spread, memory peaks."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

#: A sample lasts at least this long, by as many calls as it takes, up to ``MAX_CALLS``: one short call would measure
#: the clock on a CPU and the launch on a GPU.
SAMPLE_SECONDS = 5e-3
MAX_CALLS = 100
#: A variant whose call takes less than this is called once before each sample, uncounted, and has samples that do not
#: count: what ran before it has left its tables and workspaces out of cache, and a GPU idle.
LEAD_SECONDS = 0.25


class GateError(RuntimeError):
    """A variant gives wrong numbers; its speed is of no interest."""


@dataclass(frozen=True)
class Variant:
    """Something to time.

    Attributes:
        name: Of its row.
        run: One call.
        error: What the gate found, where there is one.
        held_bytes: What it keeps on the device between calls and would not exist without it: counted into its peak.
        kept_bytes: What one call keeps for its backward pass, where that was counted.
    """

    name: str
    run: Callable[[], object]
    error: float | None = None
    held_bytes: int = 0
    kept_bytes: int | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds a call of one variant: median and extremes of ``repeats`` samples of ``calls`` calls each.

    ``error`` and ``kept_bytes`` as in :class:`Variant`. ``peak_bytes``: the most memory that one call takes on a CUDA
    device above what it found there, plus ``Variant.held_bytes``; None on a CPU, where torch does not count.
    """

    name: str
    median: float
    minimum: float
    maximum: float
    repeats: int
    calls: int = 1
    error: float | None = None
    peak_bytes: int | None = None
    kept_bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass
class Measured:
    """The timings of one run, and the reason for each variant that has none."""

    timings: list[Timing] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def median(self, *names: str) -> float | None:
        """The smallest median of those of ``names`` that were timed, in seconds; None where none was."""
        return min((timing.median for timing in self.timings if timing.name in names), default=None)


def measure(
    variants: Iterable[Variant],
    *,
    device: torch.device,
    repeats: int,
    warmup: int = 1,
    limit: float | None = None,
) -> Measured:
    """Time variants, one sample of each in turn, so that a drift of the machine meets all of them.

    Each is first called twice by itself, which compiles and warms up; a short one (``LEAD_SECONDS``) is warmed up
    again. A variant that raises, for want of memory above all, is skipped with its reason and does not stop the others.
    On CUDA the time is that between two events.

    Args:
        variants: With different names.
        device: Where they run; the current one if it is a CUDA device.
        repeats: Samples that count.
        warmup: Samples of short variants before them that do not.
        limit: Seconds a call above which a variant is skipped.

    Raises:
        ValueError: ``repeats`` below 1 or a ``limit`` that is not positive.
    """
    check_run(repeats, limit)
    result = Measured()
    calls: dict[str, int] = {}
    leads: dict[str, int] = {}
    peaks: dict[str, int | None] = {}
    running: dict[str, Variant] = {}
    for variant in variants:
        try:
            _sample(variant.run, device, 1)
            seconds, peaks[variant.name] = _second_call(variant, device)
        except Exception as error:  # whatever a rival raises: the others are still worth timing
            result.skipped[variant.name] = reason(error)
            continue
        if limit is not None and seconds > limit:
            result.skipped[variant.name] = above(limit)
            continue
        running[variant.name] = variant
        leads[variant.name] = int(seconds < LEAD_SECONDS)
        calls[variant.name] = max(1, min(MAX_CALLS, math.ceil(SAMPLE_SECONDS / max(seconds, 1e-9))))
    samples: dict[str, list[float]] = {name: [] for name in running}
    for turn in range(warmup + repeats):
        for name, variant in list(running.items()):
            if turn < warmup and not leads[name]:
                continue
            try:
                seconds = _sample(variant.run, device, calls[name], leads[name])
            except Exception as error:
                result.skipped[name] = reason(error)
                del running[name]
                continue
            if turn >= warmup:
                samples[name].append(seconds)
    for name, variant in running.items():
        times = samples[name]
        spread = statistics.median(times), min(times), max(times), len(times)
        result.timings.append(
            Timing(name, *spread, calls[name], variant.error, peaks[name], variant.kept_bytes),
        )
    return result


def measure_built(
    names: Iterable[str],
    build: Callable[[str], Iterable[Variant]],
    *,
    device: torch.device,
    repeats: int,
    limit: float | None = None,
    rivals: Collection[str] = (),
) -> Measured:
    """Build variants, then time them as :func:`measure` does; a name that cannot be built is skipped with its reason.

    Args:
        names: What to build.
        build: Gives the variants of a name.
        device, repeats, limit: As for :func:`measure`.
        rivals: Names whose :class:`GateError` is a reason to skip them; that of any other stops the run.

    Raises:
        GateError: Of a name that is no rival.
        ValueError: As for :func:`measure`.
    """
    ready: list[Variant] = []
    skipped: dict[str, str] = {}
    for name in names:
        try:
            ready += build(name)
        except Exception as error:  # a missing package, too little memory
            if isinstance(error, GateError) and name not in rivals:
                raise
            skipped[name] = reason(error)
    result = measure(ready, device=device, repeats=repeats, limit=limit)
    result.skipped = skipped | result.skipped
    return result


def check_run(repeats: int, limit: float | None) -> None:
    """Raise ValueError unless ``repeats`` is at least 1 and ``limit`` None or a positive number of seconds."""
    if repeats < 1:
        raise ValueError(f'repeats must be at least 1, but got {repeats}')
    if limit is not None and not limit > 0:
        raise ValueError(f'limit must be a positive number of seconds, but got {limit}')


def gate(name: str, actual: Tensor, expected: Tensor, bar: float) -> float:
    """The largest error of ``actual`` over the largest ``expected``.

    Raises:
        GateError: It is not below ``bar``, or no number.
    """
    largest = float(expected.double().abs().max())
    error = float((actual.detach().double() - expected.double()).abs().max()) / (largest or 1.0)
    if not error < bar:  # catches NaN too
        raise GateError(f'{name} is wrong by {error:.2e} of the largest value, above the bar of {bar:.0e}: not timed')
    return error


def kept_bytes(compute: Callable[[], object], held: Iterable[Tensor]) -> int:
    """What autograd saves while ``compute`` runs; tensors that share a storage once, those of ``held`` not at all."""
    held_storages = {tensor.untyped_storage().data_ptr() for tensor in held}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held_storages:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor  # which keeps the storage, so that its address stays its own

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = compute()  # its graph keeps what was saved
    del result
    return sum(saved.values())


def reason(error: BaseException) -> str:
    """One line for the table of what was skipped."""
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else ''
    return text if isinstance(error, GateError) else f'{type(error).__name__}: {text[:200] or "no reason given"}'


def above(limit: float) -> str:
    """The reason of a variant that is too slow to be timed."""
    return f'not run, above {limit:g} s'


def _sample(run: Callable[[], object], device: torch.device, calls: int, lead: int = 0) -> float:
    """Seconds a call, of ``calls`` calls after ``lead`` that do not count."""
    if device.type == 'cuda':
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        for _ in range(lead):
            run()
        start.record()
        for _ in range(calls):
            run()
        stop.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(stop) / 1e3 / calls
    for _ in range(lead):
        run()
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / calls


def _second_call(variant: Variant, device: torch.device) -> tuple[float, int | None]:
    """Seconds of the first call that compiles nothing, and its peak of memory on CUDA."""
    if device.type != 'cuda':
        return _sample(variant.run, device, 1), None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    seconds = _sample(variant.run, device, 1)
    return seconds, torch.cuda.max_memory_allocated(device) - before + variant.held_bytes
