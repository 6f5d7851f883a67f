import dataclasses
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from pelk_mm.benchmarks import harness
from pelk_mm.benchmarks.op import measure
from pelk_mm.benchmarks.op.measure import benchmark_op
from pelk_mm.benchmarks.op.variants import op_variants
from pelk_mm.ops import available_backends
from pelk_mm.ops.backends import choice
from pelk_mm.ops.backends.dense import depthwise_dense

TINY = {'kernel_size': 13, 'channels': 3, 'size': (9, 8), 'batch': 3, 'repeats': 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(harness, 'SAMPLE_SECONDS', 0.0)
    monkeypatch.setattr(measure, 'cache_bytes', lambda device: 4000)
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)  # seconds, where the suite sets it


def replace_backend(monkeypatch, name, run):
    monkeypatch.setitem(choice.BACKENDS, name, dataclasses.replace(choice.BACKENDS[name], forward=run, backward=None))


def install(monkeypatch, name, **contents):
    module = ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize('backward', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_every_variant_is_timed_or_skipped_with_a_reason(backward, dtype):
    result = benchmark_op(**TINY, backward=backward, dtype=dtype)
    names = [t.name for t in result.timings]
    assert {'stock', 'stock nhwc', 'auto', 'dense', 'fft', 'stock 7x7', 'copy'} <= set(names)
    assert sorted([*names, *result.skipped]) == sorted(op_variants())
    gated = {t.name for t in result.timings if t.error is not None}
    assert gated == {'stock', 'stock nhwc', 'auto', *available_backends()} & set(names)
    assert all(0 < t.minimum <= t.median <= t.maximum for t in result.timings)


def test_missing_rivals_are_named(monkeypatch):
    for name in ('wtconv', 'fast_wtconv'):
        monkeypatch.setitem(sys.modules, name, None)
    result = benchmark_op(**TINY, variants=['megengine', 'wtconv', 'wtconv cuda', 'copy'])
    assert [t.name for t in result.timings] == ['copy']
    assert 'it runs on CUDA alone' in result.skipped['megengine']
    assert 'wtconv cannot be imported' in result.skipped['wtconv']
    assert 'fast_wtconv.wtconv_cuda cannot be imported' in result.skipped['wtconv cuda']


def test_wavelets_are_timed_without_a_gate(monkeypatch):
    made = []

    class WTConv2d(nn.Conv2d):
        def __init__(self, in_channels, out_channels, kernel_size, bias, wt_levels):
            made.append((in_channels, out_channels, kernel_size, wt_levels))
            super().__init__(in_channels, out_channels, kernel_size, padding=2, groups=in_channels, bias=bias)

    install(monkeypatch, 'wtconv', WTConv2d=WTConv2d)
    result = benchmark_op(**TINY, variants=['wtconv'], backward=True, dtype=torch.bfloat16)
    assert [(t.name, t.error) for t in result.timings] == [('wtconv', None)]
    assert made == [(3, 3, 5, 2)]  # 5 * 2^2 pixels see the 13


def test_images_are_rotated_beyond_the_cache(monkeypatch):
    addresses = {'forward': [], 'hot': []}
    for kind, seen in addresses.items():

        def spy(input, *args, seen=seen):
            seen.append(input.data_ptr())
            return depthwise_dense(input, *args)

        with monkeypatch.context() as patch:
            replace_backend(patch, 'fft', spy)
            patch.setattr(measure, 'cache_bytes', lambda device: 20_000)
            benchmark_op(**TINY | {'repeats': 12}, variants=['fft', 'stock 7x7'], hot=kind == 'hot')
    size = 3 * 3 * 9 * 8 * 4
    cycle = addresses['forward'][1:9]  # the reference took the first copy, and 7x7 takes every other one
    assert len(set(cycle)) * size * 2 > 20_000
    assert all(a != b for a, b in zip(addresses['forward'], addresses['forward'][1:], strict=False))
    assert len(set(addresses['hot'])) == 1


def test_a_wrong_back_end_stops_the_benchmark(monkeypatch):
    replace_backend(monkeypatch, 'fft', lambda *args: depthwise_dense(*args) * 1.001)
    with pytest.raises(harness.GateError, match='fft K=13 is wrong by 1'):
        benchmark_op(**TINY)


@pytest.mark.parametrize('what', ['input', 'weight'])
def test_a_wrong_gradient_stops_the_benchmark(monkeypatch, what):
    def wrong(input, weight, *rest):
        tensors = {'input': input, 'weight': weight}
        # the right value, and a gradient that is off
        tensors[what] = 1.5 * tensors[what] - 0.5 * tensors[what].detach()
        return depthwise_dense(tensors['input'], tensors['weight'], *rest)

    replace_backend(monkeypatch, 'fft', wrong)
    benchmark_op(**TINY, variants=['fft'])
    with pytest.raises(harness.GateError, match=f'the gradient of {what} by fft is wrong by'):
        benchmark_op(**TINY, variants=['fft'], backward=True)


def test_a_wrong_rival_is_skipped(monkeypatch):
    right = torch.nn.functional.conv2d
    monkeypatch.setattr(
        'pelk_mm.benchmarks.op.variants.F.conv2d', lambda x, *a, **k: right(x, *a, **k) * (1 + 1e-3 * (x.shape[2] == 9))
    )
    replace_backend(monkeypatch, 'fft', choice.BACKENDS['fft'].run)
    monkeypatch.setattr(measure, 'reference', lambda case: (right_reference(case, right),))
    result = benchmark_op(**TINY, variants=['stock', 'fft'])
    assert [t.name for t in result.timings] == ['fft']
    assert result.skipped['stock'].startswith('stock K=13 is wrong by')


def right_reference(case, conv2d):
    image = case.sample(case.images.next()).double()
    kernel = case.kernel[case.seen].double()
    return conv2d(image, kernel, padding=6, groups=len(case.seen))


def test_a_back_end_that_fails_does_not_stop_the_others(monkeypatch):
    def broken(*args):
        raise torch.OutOfMemoryError('no room')

    replace_backend(monkeypatch, 'fft', broken)
    refusing = dataclasses.replace(choice.BACKENDS['dense'], refusal=lambda problem: 'not on Sundays')
    monkeypatch.setitem(choice.BACKENDS, 'sabbath', dataclasses.replace(refusing, name='sabbath'))
    result = benchmark_op(**TINY, variants=['fft', 'sabbath', 'stock'])
    assert [t.name for t in result.timings] == ['stock']
    assert result.skipped['fft'] == 'OutOfMemoryError: no room'
    assert 'not on Sundays' in result.skipped['sabbath']


def test_what_one_image_shows_to_be_too_slow_is_not_run(monkeypatch):
    batches = []

    def spy(input, *args):
        batches.append(len(input))
        return depthwise_dense(input, *args)

    replace_backend(monkeypatch, 'fft', spy)
    result = benchmark_op(**TINY, variants=['fft', 'copy'], limit=1e-9)
    assert result.skipped['fft'] == 'not run, above 1e-09 s'
    assert batches == [1]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'kernel_size': 12}, 'kernel_size must be odd and positive, but got 12'),
        ({'batch': 0}, 'batch must be at least 1, but got 0'),
        ({'size': (0, 8)}, 'height must be at least 1, but got 0'),
        ({'variants': ['cudnn']}, 'variants must be some of stock, .*, but got cudnn'),
        ({'variants': []}, 'but got none'),
        ({'dtype': torch.int8}, 'dtype must be one of torch.float32'),
        ({'limit': -1}, 'limit must be a positive number of seconds, but got -1'),
        ({'device': 'abacus'}, 'abacus'),
        ({'repeats': 0}, 'repeats must be at least 1'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        benchmark_op(**TINY | arguments)
