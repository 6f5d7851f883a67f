import dataclasses
import json

import pytest
import torch
from tool_runner import run

from pelk_mm.benchmarks import harness, machine
from pelk_mm.benchmarks import report as benchmark_report
from pelk_mm.models import PeLK
from pelk_mm.ops.backends import choice
from pelk_mm.ops.backends.dense import depthwise_dense

TOOL = 'analysis_tools/benchmark.py'
TINY_OP = ['op', '--kernel-size', 13, '--channels', 3, '--size', 9, 8, '--batch', 2, '--repeats', 2]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(PeLK, 'arch_settings', {'speck': {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}})
    monkeypatch.setattr(harness, 'SAMPLE_SECONDS', 0.0)
    monkeypatch.setattr(machine, 'DEFAULT_CACHE_BYTES', 4096)
    monkeypatch.setattr(machine, 'CPU_CACHES', machine.Path('nowhere'))
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)


@pytest.mark.parametrize('extra', [[], ['--backward'], ['--dtype', 'bf16', '--hot']])
def test_op_prints_a_table_and_writes_json(tmp_path, capsys, extra):
    file = tmp_path / 'deep' / 'op.json'
    assert run(TOOL, *TINY_OP, *extra, '--json', file) == 0
    report = json.loads(file.read_text())
    assert {'stock', 'stock nhwc', 'auto', 'dense', 'fft', 'stock 7x7', 'copy'} <= set(report['timings'])
    assert report['timings']['fft']['error'] < 2e-2
    assert report['machine']['torch'] == torch.__version__
    assert report['skipped']['megengine']
    out = capsys.readouterr().out
    assert f'torch {torch.__version__}' in out
    assert 'best stock / it' in out
    assert 'wtconv is not timed' in out


@pytest.mark.parametrize('what', ['model', 'train'])
def test_nets(tmp_path, capsys, what):
    file = tmp_path / 'nets.json'
    options = ['--arch', 'speck', '--size', 32, '--batch', 2, '--repeats', 1, '--dtype', 'bf16', '--json', file]
    assert run(TOOL, what, *options, '--nets', 'pelk', '7x7', '--channels', 8, 6, 8, 10) == 0
    report = json.loads(file.read_text())
    assert set(report['timings']) == {'pelk', '7x7'}
    assert report['options']['channels'] == '8 6 8 10'
    assert (report['timings']['7x7']['kept_bytes'] is not None) == (what == 'train')
    assert 'images/s' in capsys.readouterr().out


def test_sparsity(capsys):
    assert run(TOOL, 'sparsity', '--arch', 'speck', '--size', 32, '--batch', 2, '--repeats', 1) == 0
    assert 'iteration / it' in capsys.readouterr().out


def test_report_writes_its_files_and_writes_them_again(tmp_path, capsys, monkeypatch):
    def plan(device, quick, **changes):
        sizes = {'ops': ((1, 2, 5, 7, False),), 'kernel_sizes': (5, 7), 'sizes': (3, 5), 'fixed_size': 5}
        return default_plan(device, quick, **changes | sizes | {'repeats': 1, 'sweep_channels': 2, 'fixed_kernel': 7})

    default_plan = benchmark_report.default_plan
    monkeypatch.setattr(benchmark_report, 'default_plan', plan)
    out = tmp_path / 'new' / 'folder'
    command = ['report', '--quick', '--parts', 'op', 'sweeps', '--out', out]
    assert run(TOOL, *command) == 0
    names = ['cpu_kernel_size.png', 'cpu_op.md', 'cpu_size.png', 'cpu_sweeps.csv', 'cpu_sweeps.md']
    assert sorted(path.name for path in out.iterdir()) == names
    assert f'benchmark.py report --quick --parts op sweeps --out {out}' in (out / 'cpu_op.md').read_text()
    assert f'written: {out}/cpu_op.md' in capsys.readouterr().out
    (out / 'cpu_sweeps.md').write_text('old')
    assert run(TOOL, *command) == 0
    assert (out / 'cpu_sweeps.md').read_text() != 'old'
    assert sorted(path.name for path in out.iterdir()) == names


def test_predictions_are_kept(tmp_path, capsys, monkeypatch):
    """What is predicted is tested where kernels are compiled, tests/benchmarks/predict."""
    pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')
    from pelk_mm.benchmarks.predict import report as predict_report

    monkeypatch.setattr(predict_report, 'predictions', lambda: {'a': 1})
    monkeypatch.setattr(predict_report, 'page', lambda found, measured, command, versions: f'{command}: {found}')
    monkeypatch.setattr(predict_report, 'as_json', lambda found, measured, versions: found)
    file, folder = tmp_path / 'figures.json', tmp_path / 'docs'
    assert run(TOOL, 'predict', '--json', file, '--out', folder) == 0
    assert json.loads(file.read_text()) == {'a': 1}
    page = (folder / 'predicted.md').read_text()
    assert page.startswith(f'python tools/analysis_tools/benchmark.py predict --json {file}')
    assert page in capsys.readouterr().out


def test_wrong_numbers_are_not_timed(monkeypatch, capsys):
    def wrong(*args):
        return depthwise_dense(*args) * 1.001

    monkeypatch.setitem(
        choice.BACKENDS, 'fft', dataclasses.replace(choice.BACKENDS['fft'], forward=wrong, backward=None)
    )
    assert run(TOOL, *TINY_OP) == 1
    captured = capsys.readouterr()
    assert captured.err.count('\n') == 1
    assert 'fft K=13 is wrong by' in captured.err
    assert 'median' not in captured.out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['op', '--kernel-size', '12'], 'kernel_size must be odd and positive, but got 12'),
        (['op', '--variants', 'cudnn'], 'variants must be some of stock'),
        (['op', '--repeats', '0'], 'repeats must be at least 1'),
        (['op', '--limit', '0'], 'limit must be a positive number of seconds'),
        (['op', '--device', 'abacus'], "device must be 'cpu' or 'cuda', but got 'abacus'"),
        (['model', '--arch', 'gigantic'], 'arch must be one of'),
        (['model', '--size', '31'], 'size must be at least 32'),
        (['train', '--nets', 'resnet'], 'nets must be some of pelk'),
        (['sparsity', '--sparsity', '1'], 'sparsity must be in'),
        (['report', '--parts', 'poem'], '--parts must be some of op, sweeps, nets, but got poem'),
        (['report', '--out', __file__], 'is not a folder'),
        (['report', '--dtype', 'fp64'], '--dtype fp64 is for convolutions'),
        (['predict', '--out', __file__], 'is not a folder'),
        (['predict', '--device', 'abacus'], "device must be 'cpu' or 'cuda', but got 'abacus'"),
    ],
)
def test_bad_arguments(capsys, arguments, message):
    assert run(TOOL, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    assert message in error


@pytest.mark.skipif(torch.cuda.is_available(), reason='asks for a GPU that is not there')
def test_cuda_without_a_gpu(capsys):
    assert run(TOOL, 'op', '--device', 'cuda') == 2
    assert 'no CUDA GPU here; use --device cpu' in capsys.readouterr().err
