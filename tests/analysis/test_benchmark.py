import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

from pelk_mm.analysis import benchmark
from pelk_mm.ops import backends

TOOLS = Path(__file__).parents[2] / 'tools' / 'analysis_tools'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    sys.modules.pop('benchmark', None)
    import benchmark as module

    yield module
    sys.modules.pop('benchmark', None)


TINY_OP = ['--kernel-size', '13', '--channels', '3', '--size', '9', '8', '--batch', '1', '--repeats', '2']


def test_runs_interleave_and_warm_up():
    order = []
    seconds = benchmark.time_interleaved(
        {'a': lambda: order.append('a'), 'b': lambda: order.append('b')},
        device=torch.device('cpu'),
        repeats=2,
        warmup=1,
    )
    assert order == ['a', 'b'] * 3
    assert [len(times) for times in seconds.values()] == [2, 2]
    with pytest.raises(ValueError, match='repeats must be at least 1'):
        benchmark.time_interleaved({}, device=torch.device('cpu'), repeats=0)


def test_summary_is_median_and_extremes():
    (timing,) = benchmark.summarise({'x': [3.0, 1.0, 2.0]}, {'x': 0.5})
    assert timing == benchmark.Timing('x', 2.0, 1.0, 3.0, 3, 0.5)


@pytest.mark.parametrize('extra', [[], ['--backward'], ['--dtype', 'bf16']])
def test_op_writes_json(tool, tmp_path, capsys, extra):
    file = tmp_path / 'deep' / 'op.json'
    assert tool.main(['op', *TINY_OP, *extra, '--json', str(file)]) == 0
    report = json.loads(file.read_text())
    assert set(report['timings']) == {'stock', 'stock nhwc', 'fft', 'stock 7x7'}
    assert report['timings']['fft']['error'] < benchmark.ERROR_BARS[torch.bfloat16]
    assert report['machine']['torch'] == torch.__version__
    assert 'stock / it' in capsys.readouterr().out


def test_model_times_every_rival(monkeypatch):
    from pelk_mm.models import PeLK

    arch = {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}
    monkeypatch.setattr(PeLK, 'arch_settings', {'speck': arch})
    timings, skipped = benchmark.benchmark_model(arch='speck', size=32, batch=1, repeats=1)
    names = {timing.name for timing in timings}
    assert names | set(skipped) == {'pelk', 'pelk-101', '7x7', 'stripe', 'stripe nhwc', 'convnext'}


def test_wrong_numbers_are_not_timed(tool, monkeypatch, capsys):
    def wrong(*args):
        return backends.depthwise_dense(*args) * 1.001

    fft = dataclasses.replace(backends.BACKENDS['fft'], run=wrong)
    monkeypatch.setitem(backends.BACKENDS, 'fft', fft)
    assert tool.main(['op', *TINY_OP]) == 1
    captured = capsys.readouterr()
    assert 'fft K=13 is wrong by' in captured.err
    assert 'median' not in captured.out


def test_a_wrong_gradient_is_not_timed(tool, monkeypatch, capsys):
    from pelk_mm.ops import fft

    right = fft._segment_sums
    monkeypatch.setattr(fft, '_segment_sums', lambda *args: 3 * right(*args))
    assert tool.main(['op', *TINY_OP, '--backward']) == 1
    assert 'the gradient of weight by fft is wrong by' in capsys.readouterr().err


def test_a_wrong_merge_is_not_timed(monkeypatch):
    from pelk_mm.layers import peripheral
    from pelk_mm.models import PeLK

    def unfolded(norm):
        return torch.ones(norm.num_features).double(), torch.zeros(norm.num_features).double()

    monkeypatch.setattr(PeLK, 'arch_settings', {'speck': {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}})
    monkeypatch.setattr(peripheral, 'batch_norm_scale_and_shift', unfolded)
    with pytest.raises(benchmark.GateError, match='deployed pelk is wrong by'):
        benchmark.benchmark_model(arch='speck', size=32, batch=1, repeats=1)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['op', '--kernel-size', '12'], 'kernel_size must be odd and positive, but got 12'),
        (['model', '--arch', 'gigantic'], 'arch must be one of'),
        (['op', '--device', 'abacus'], 'abacus'),
    ],
)
def test_bad_arguments(tool, capsys, arguments, message):
    assert tool.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='asks for a GPU that is not there')
def test_cuda_without_a_gpu(tool, capsys):
    assert tool.main(['op', '--device', 'cuda']) == 2
    assert 'no CUDA GPU here; use --device cpu' in capsys.readouterr().err
