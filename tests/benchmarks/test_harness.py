import itertools
import time

import pytest
import torch

from pelk_mm.benchmarks import harness
from pelk_mm.benchmarks.harness import Measured, Timing, Variant, gate, measure

CPU = torch.device('cpu')


@pytest.fixture
def one_call(monkeypatch):
    monkeypatch.setattr(harness, 'SAMPLE_SECONDS', 0.0)
    monkeypatch.setattr(harness, 'LEAD_SECONDS', 0.0)


def variant(order, name, **kwargs):
    return Variant(name, lambda: order.append(name), **kwargs)


@pytest.mark.parametrize(('short', 'turns'), [(5.0, ['a', 'a', 'b', 'b'] * 3), (0.0, ['a', 'b'] * 2)])
def test_variants_warm_up_alone_then_run_in_turn(monkeypatch, one_call, short, turns):
    monkeypatch.setattr(harness, 'LEAD_SECONDS', short)
    order = []
    result = measure([variant(order, 'a', error=0.5), variant(order, 'b')], device=CPU, repeats=2, warmup=1)
    assert order == ['a', 'a', 'b', 'b', *turns]  # short ones warm up again, and before each sample
    assert [(t.name, t.repeats, t.calls, t.error) for t in result.timings] == [('a', 2, 1, 0.5), ('b', 2, 1, None)]


def test_a_short_call_is_repeated_within_a_sample(monkeypatch):
    monkeypatch.setattr(harness, 'MAX_CALLS', 7)
    monkeypatch.setattr(harness, 'SAMPLE_SECONDS', 1e3)
    order = []
    (timing,) = measure([variant(order, 'a')], device=CPU, repeats=2, warmup=1).timings
    assert timing.calls == 7
    assert len(order) == 2 + (1 + 7) * 3  # and led by a call that does not count


def test_median_and_extremes_a_call(monkeypatch, one_call):
    ticks = iter([0, 9, 10, 19, 20, 23, 30, 31, 40, 42])  # two calls alone, then 3, 1 and 2 seconds
    monkeypatch.setattr(time, 'perf_counter', lambda: next(ticks))
    (timing,) = measure([variant([], 'x')], device=CPU, repeats=3, warmup=0).timings
    assert (timing.median, timing.minimum, timing.maximum) == (2, 1, 3)
    assert timing.as_dict()['median'] == 2


def test_what_raises_is_skipped_with_its_reason(one_call):
    def too_large():
        raise torch.OutOfMemoryError('CUDA out of memory.\nTried to allocate')

    countdown = itertools.count()

    def fails_later():
        if next(countdown) == 3:
            raise RuntimeError('lost')

    variants = [Variant('large', too_large), Variant('later', fails_later), variant([], 'good')]
    result = measure(variants, device=CPU, repeats=3)
    assert [t.name for t in result.timings] == ['good']
    assert result.skipped == {'large': 'OutOfMemoryError: CUDA out of memory.', 'later': 'RuntimeError: lost'}


def test_what_is_too_slow_is_not_timed(monkeypatch, one_call):
    ticks = itertools.accumulate(itertools.cycle([0, 3]))  # every call takes 3 s
    monkeypatch.setattr(time, 'perf_counter', lambda: next(ticks))
    order = []
    result = measure([variant(order, 'slow')], device=CPU, repeats=5, limit=2.5)
    assert result == Measured([], {'slow': 'not run, above 2.5 s'})
    assert order == ['slow', 'slow']  # the second call counts: the first may compile


def test_bad_arguments():
    for arguments, message in (
        ({'repeats': 0}, 'repeats must be at least 1'),
        ({'repeats': 1, 'limit': 0.0}, 'limit must be a positive number of seconds, but got 0.0'),
    ):
        with pytest.raises(ValueError, match=message):
            measure([], device=CPU, **arguments)


def test_cuda_is_timed_by_events_and_its_memory_counted(monkeypatch, one_call):
    monkeypatch.setattr(harness, 'LEAD_SECONDS', 5.0)
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append('event')

        def elapsed_time(self, stop):
            return 4e3

    memory = {'now': 100, 'peak': 10_000}
    stubs = {
        'Event': Event,
        'synchronize': lambda device: log.append('synchronise'),
        'memory_allocated': lambda device: memory['now'],
        'max_memory_allocated': lambda device: memory['peak'],
        'reset_peak_memory_stats': lambda device: memory.update(peak=memory['now']),
    }
    for name, stub in stubs.items():
        monkeypatch.setattr(torch.cuda, name, stub)

    def run():
        log.append('run')
        memory['peak'] += 20

    (timing,) = measure([Variant('x', run, held_bytes=3)], device=torch.device('cuda'), repeats=1, warmup=0).timings
    alone = ['synchronise', 'event', 'run', 'event', 'synchronise']
    assert log == [*alone, *alone, 'synchronise', 'run', 'event', 'run', 'event', 'synchronise']
    assert timing == Timing('x', 4.0, 4.0, 4.0, 1, 1, None, peak_bytes=20 + 3)


def test_gate():
    expected = torch.tensor([1.0, -4.0])
    assert gate('x', expected + torch.tensor([0.0, 0.4]), expected, 0.11) == pytest.approx(0.1)
    with pytest.raises(harness.GateError, match=r'x is wrong by 1.00e-01 of the largest value, above the bar of 1e-02'):
        gate('x', expected + torch.tensor([0.0, 0.4]), expected, 0.01)
    with pytest.raises(harness.GateError, match='wrong by nan'):
        gate('x', expected * float('nan'), expected, 1e9)


def test_best_median():
    result = Measured([Timing('a', 2, 1, 3, 1), Timing('b', 1, 1, 1, 1)])
    assert (result.median('a', 'b'), result.median('a'), result.median('c')) == (1, 2, None)


def test_what_cannot_be_built_is_skipped_but_our_own_wrong_numbers_stop_the_run():
    def build(name):
        if name == 'absent':
            raise ImportError('no such package')
        if name == 'wrong':
            raise harness.GateError('wrong by 1')
        return [harness.Variant(form, lambda: None) for form in (name, f'{name}, deployed')]

    result = harness.measure_built(['absent', 'a', 'wrong'], build, device=CPU, repeats=1, rivals=['wrong'])
    assert [timing.name for timing in result.timings] == ['a', 'a, deployed']
    assert result.skipped == {'absent': 'ImportError: no such package', 'wrong': 'wrong by 1'}
    with pytest.raises(harness.GateError, match='wrong by 1'):
        harness.measure_built(['a', 'wrong'], build, device=CPU, repeats=1)
