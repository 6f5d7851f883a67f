import csv
import io

import numpy as np
import pytest
import torch
from PIL import Image

from pelk_mm.benchmarks import harness
from pelk_mm.benchmarks.harness import Measured, Timing, above
from pelk_mm.benchmarks.nets import setting
from pelk_mm.benchmarks.op import measure, sweeps
from pelk_mm.benchmarks.op.sweeps import draw_sweep, sweep, sweep_rows, sweep_table
from pelk_mm.benchmarks.op.table import op_table
from pelk_mm.benchmarks.report import PARTS, default_plan
from pelk_mm.benchmarks.tables import milliseconds, net_table, plain_table
from pelk_mm.models import PeLK

CPU = torch.device('cpu')


def cells(table):
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines() if line[:1] == '|']


def timing(name, median, **kwargs):
    return Timing(name, median, median / 2, 2 * median, 3, **kwargs)


def test_op_table_takes_the_better_stock_layout():
    timings = [timing('stock', 4.0, error=1e-6), timing('stock nhwc', 1.0), timing('auto', 0.1), timing('copy', 0.05)]
    table = op_table(Measured(timings, {'wtconv': 'not here'}))
    header, _, stock, nhwc, auto, copy = cells(table)
    assert header == ['variant', 'median ms', 'min .. max', 'stock / it', 'best stock / it', 'it / copy', 'error']
    assert stock == ['stock', '4000', '2000 .. 8000', '1.00', '0.250', '80.0', '1.0e-06']
    assert nhwc[3:5] == ['4.00', '1.00']
    assert auto == ['auto', '100', '50.0 .. 200', '40.0', '10.0', '2.00', '-']
    assert copy[5] == '1.00'
    assert table.endswith('\n\n- wtconv is not timed: not here')
    assert cells(op_table(Measured([timing('fft', 1.0)])))[2][3:6] == ['-', '-', '-']


def test_net_table():
    timings = [timing('pelk', 0.5, kept_bytes=3 << 20, peak_bytes=5 << 20), timing('7x7', 0.25, kept_bytes=1 << 20)]
    header, _, pelk, seven = cells(net_table(Measured(timings), batch=8))
    assert header[3:] == ['images/s', 'pelk / it', 'kept for backward, MiB', 'peak MiB']
    assert pelk[3:] == ['16.0', '1.00', '3.0', '5.0']
    assert seven[3:] == ['32.0', '2.00', '1.0', '-']


def test_tables_are_aligned():
    lines = plain_table(Measured([timing('a', 1.0), timing('much longer', 1e-6)]), 'a').splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [milliseconds(s) for s in (1.2345, 0.012345, 1.2345e-6)] == ['1234', '12.3', '0.00123']


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(harness, 'SAMPLE_SECONDS', 0.0)
    for module in (measure, setting):
        monkeypatch.setattr(module, 'cache_bytes', lambda device: 0)
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(PeLK, 'arch_settings', {'speck': {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}})
    return default_plan(
        CPU,
        ops=((2, 3, 6, 7, True), (1, 2, 5, 9, False)),
        sweep_batch=2,
        sweep_channels=3,
        kernel_sizes=(5, 7),
        sizes=(3, 6),
        fixed_size=6,
        fixed_kernel=7,
        arch='speck',
        image_size=32,
        batch=1,
        train_batch=2,
        repeats=1,
        command='the command',
    )


def test_report_of_ops(tiny):
    ((name, text),) = PARTS['op'](tiny).items()
    assert name == 'cpu_op.md'
    assert 'the command' in text
    assert f'torch {torch.__version__}' in text
    assert '## 2 x 3 x 6 x 6, K = 7, forward and the gradients of image and weight' in text
    assert '## 1 x 2 x 5 x 5, K = 9, forward\n' in text
    assert [row[0] for row in cells(text)].count('stock 7x7') == 2
    assert '- megengine is not timed: RuntimeError: it runs on CUDA alone' in text


def test_report_of_sweeps(tiny):
    files = PARTS['sweeps'](tiny)
    assert list(files) == ['cpu_kernel_size.png', 'cpu_size.png', 'cpu_sweeps.csv', 'cpu_sweeps.md']
    for picture in list(files)[:2]:
        assert len(files[picture]) < 150_000
        assert np.asarray(Image.open(io.BytesIO(files[picture]))).std() > 5
        assert f'![]({picture})' in files['cpu_sweeps.md']
    rows = list(csv.DictReader(io.StringIO(files['cpu_sweeps.csv'])))
    names = {'stock', 'stock nhwc', 'auto', 'fft', 'stock 7x7', 'copy'}
    points = {(row['axis'], row['value'], row['backward'], row['variant']) for row in rows}
    for axis, values in {'kernel_size': '57', 'size': '36'}.items():
        assert {(axis, v, b, n) for v in values for b in '01' for n in names} <= points
    assert files['cpu_sweeps.md'].count('| K ') == files['cpu_sweeps.md'].count('| map ') == 2


def test_report_of_nets(tiny):
    ((name, text),) = PARTS['nets'](tiny).items()
    assert name == 'cpu_nets.md'
    assert '## Evaluation, PeLK-speck deployed, batch 1, 32 x 32, float32' in text
    assert '## A training step, speck, batch 2, 32 x 32, float32' in text
    assert [row[0] for row in cells(text)].count('stripe nhwc') == 2
    assert 'kept for backward' in text


def test_plans_of_the_bars():
    gpu = default_plan(torch.device('cuda'))
    assert gpu.dtype == torch.bfloat16
    assert {(64, 46, 56, 51, False), (64, 46, 56, 51, True), (8, 62, 96, 101, False), (64, 46, 56, 151, False)} <= set(
        gpu.ops
    )
    assert (gpu.batch, gpu.train_batch, gpu.image_size) == (128, 128, 224)
    full, quick = default_plan(CPU), default_plan(CPU, quick=True)
    assert (full.kernel_sizes[0], full.kernel_sizes[-1]) == (7, 151)
    assert set(quick.kernel_sizes) < set(full.kernel_sizes)
    assert quick.repeats < full.repeats


def fake_op(times):
    calls = []

    def benchmark_op(*, kernel_size, central_size, size, limit, variants, **options):
        calls.append((kernel_size, central_size, size, tuple(variants)))
        seconds = {name: times.get(name, 0.001) * kernel_size for name in variants}
        timed = [timing(name, s) for name, s in seconds.items() if s <= limit and name != 'triton']
        skipped = {name: above(limit) for name, s in seconds.items() if s > limit}
        return Measured(timed, skipped | {'triton': 'no GPU'})

    return benchmark_op, calls


def test_what_was_too_slow_is_not_tried_again(monkeypatch):
    fake, calls = fake_op({'stock': 0.02})
    monkeypatch.setattr(sweeps, 'benchmark_op', fake)
    told = []
    points = sweep('kernel_size', (31, 75, 151), {'size': 9, 'batch': 2}, limit=1.0, progress=told.append)
    assert [call[:3] for call in calls] == [(31, 5, (9, 9)), (75, 5, (9, 9)), (151, 7, (9, 9))]
    assert ['stock' in call[3] for call in calls] == [True, True, False]
    assert told == ['kernel size 31', 'kernel size 75', 'kernel size 151']
    table = sweep_table('kernel_size', points)
    header, _, *rows = cells(table)
    assert [row[header.index('stock')] for row in rows] == ['620', 'not run', 'not run']
    assert 'triton' not in header
    assert '- stock at 75, 151: not run, above 1 s' in table
    assert '- triton at 31, 75, 151: no GPU' in table
    (row,) = (r for r in sweep_rows('kernel_size', True, points) if (r['value'], r['variant']) == (151, 'fft'))
    assert (row['backward'], row['median_ms'], row['min_ms']) == (1, '151', '75.5')
    figure = draw_sweep('kernel_size', points, points[:1], 'title')
    left, right = figure.axes
    assert [len(line.get_xdata()) for line in left.lines][0] == 1  # stock ends where it became too slow
    assert max(len(line.get_xdata()) for line in left.lines) == 3
    assert max(len(line.get_xdata()) for line in right.lines) == 1
    assert left.get_xlabel() == 'kernel size K (pixels)'


@pytest.mark.parametrize(
    ('axis', 'values', 'message'),
    [('depth', (1,), 'axis must be one of'), ('size', (), 'values must rise'), ('size', (7, 7), 'values must rise')],
)
def test_bad_sweeps(axis, values, message):
    with pytest.raises(ValueError, match=message):
        sweep(axis, values, {}, limit=1.0)
