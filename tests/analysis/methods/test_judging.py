"""How methods are judged: what ends in which verdict, whatever a trial does, and which net fits a backbone."""

import importlib.util
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from pelk_mm.analysis.methods import configs, distributed, verdicts
from pelk_mm.analysis.methods.children import Failure, Limits, Result, StoppedError, run_limited, run_together
from pelk_mm.analysis.methods.configs import Method, find_methods, read_config
from pelk_mm.analysis.methods.distributed import DistributedRow, choose
from pelk_mm.analysis.methods.report import line, share, summary, tables
from pelk_mm.analysis.methods.swap import CONVNEXT, PELK, Fit, backbone_config, find_backbones, fit, replace_backbones
from pelk_mm.analysis.methods.verdicts import Row, judge, try_method, try_methods
from pelk_mm.models import PeLK
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import ConfigError
from pelk_mm.utils.files import END, START

TOOL = Path(__file__).resolve().parents[3] / 'tools/analysis_tools/existing_methods.py'
SHAPES = Failure('loss', 'RuntimeError', 'shapes differ')
OTHER_SHAPES = Failure('loss', 'RuntimeError', 'other shapes differ')
ATTRIBUTE = Failure('loss', 'AttributeError', 'no num_branch')
LATE = Failure('loss', 'TimeoutError', 'not done after 120 s')
needs_fork = pytest.mark.skipif(torch.cuda.is_initialized(), reason='this process uses a GPU')


@pytest.mark.parametrize(
    ('failures', 'verdict'),
    [
        ((None, None, None), ('passes', '')),
        ((None, SHAPES, None), ('passes', '')),
        ((None, None, SHAPES), ('OURS', 'loss: RuntimeError: shapes differ')),
        ((None, OTHER_SHAPES, SHAPES), ('tied', 'loss: RuntimeError: shapes differ')),
        ((None, ATTRIBUTE, SHAPES), ('OURS', 'loss: RuntimeError: shapes differ')),
        ((None, Failure('predict', 'RuntimeError', ''), SHAPES), ('OURS', 'loss: RuntimeError: shapes differ')),
        ((None, LATE, LATE), ('OURS', 'loss: TimeoutError: not done after 120 s')),
        ((ATTRIBUTE, None, None), ('original fails', 'loss: AttributeError: no num_branch')),
        ((ATTRIBUTE, None, SHAPES), ('original fails', 'loss: AttributeError: no num_branch')),
    ],
)
def test_verdicts(failures, verdict):
    assert judge(*failures) == verdict


def raises(note):
    note('loss')
    raise KeyError('a name\nand more')


def hangs(note):
    note('predict')
    while True:
        time.sleep(1)


def dies(note):
    note('backward')
    os.kill(os.getpid(), signal.SIGKILL)


def leaves(note):
    os._exit(3)


def takes_memory(note):
    note('build')
    return torch.zeros(1 << 40).sum().item()


@needs_fork
@pytest.mark.processes
@pytest.mark.parametrize(
    ('work', 'failure'),
    [
        (raises, Failure('loss', 'KeyError', 'a name')),
        (hangs, Failure('predict', 'TimeoutError', 'not done after 1 s')),
        (dies, Failure('backward', 'Killed', 'by signal SIGKILL')),
        (leaves, Failure('start', 'Killed', 'it ended with exit status 3 and no result')),
    ],
)
def test_whatever_a_child_does_is_a_result(work, failure):
    assert run_limited(work, Limits(seconds=1 if work is hangs else 60)).failure == failure


@needs_fork
@pytest.mark.processes
def test_limits_of_a_child():
    assert run_limited(takes_memory, Limits()).failure.kind == 'MemoryError'
    assert run_limited(lambda note: torch.get_num_threads(), Limits()) == Result(1)
    numbers = [run_limited(lambda note: torch.rand(1).item(), Limits()).value for _ in range(2)]
    assert numbers[0] == numbers[1]
    began = time.monotonic()
    results = run_together([hangs, raises], Limits())
    assert [result.failure.kind for result in results] == ['Killed', 'KeyError']
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(StoppedError):
        run_limited(hangs, Limits(stop=stopped))
    assert time.monotonic() - began < 60


@pytest.fixture
def played(monkeypatch):
    """Trials that are played: by config, what becomes of the original at each size, and of the nets put in."""
    failures = {}
    backbones = {PELK: {'type': PELK}, CONVNEXT: {'type': CONVNEXT}}

    def run(work, limits):
        kind = (work.keywords.get('backbone') or {}).get('type', work.func.__name__)
        failure = failures.get((work.keywords['config'].name, kind), failures.get(kind))
        failure = failure(work.keywords['size']) if callable(failure) else failure
        if failure is None and kind in backbones:
            return Result({'unused': 0, 'unused_in_backbone': 0})
        return Result(None if failure else (Fit((8,), (3,)), backbones, ''), failure)

    monkeypatch.setattr(verdicts, 'run_limited', run)
    return failures


METHOD = Method('mmdet', 'a', tuple(Path(f'{name}.py') for name in '12345'))


def test_a_failure_with_pelk_only_is_ours(played):
    played[PELK] = SHAPES
    row = try_method(METHOD, Limits())
    assert (row.verdict, row.convnext, row.pelk, row.size) == ('OURS', 'passes', str(SHAPES), 128)
    played[CONVNEXT] = OTHER_SHAPES
    assert try_method(METHOD, Limits()).verdict == 'tied'
    assert share([try_method(METHOD, Limits()), row]) == (0, 1)


def test_larger_images_and_further_configs(played):
    played['_original'] = lambda size: ATTRIBUTE if size < 256 else None
    row = try_method(METHOD, Limits())
    assert (row.verdict, row.config, row.size) == ('passes', '1.py', 256)
    played['_original'] = Failure('build', 'KeyError', 'X')
    assert try_method(METHOD, Limits()).reason == 'build: KeyError: X'
    played['3.py', '_original'] = lambda size: None
    assert try_method(METHOD, Limits()).config == '3.py'
    del played['3.py', '_original']
    played['4.py', '_original'] = lambda size: None
    row = try_method(METHOD, Limits())
    assert (row.verdict, row.config, row.pelk) == ('original fails', '1.py', 'passes')


def test_without_a_backbone(played):
    nothing = Failure('read', 'NothingToTryError', 'the config defines no model')
    played['_original'] = nothing
    assert (try_method(METHOD, Limits()).verdict, try_method(METHOD, Limits()).reason) == (
        'no backbone',
        'the config defines no model',
    )
    played['5.py', '_original'] = lambda size: None
    assert try_method(METHOD, Limits()).verdict == 'passes'
    assert try_method(Method('mmdet', 'b', ()), Limits()).reason == 'the folder has no config'
    told = []
    assert try_methods([METHOD] * 3, Limits(), 2, told.append) == told
    assert len(told) == 3


@pytest.mark.parametrize(
    ('shapes', 'found'),
    [
        ([(8, 32, 32), (16, 16, 16), (24, 8, 8), (40, 4, 4)], Fit((8, 16, 24, 40), (0, 1, 2, 3))),
        ([(8, 32, 32), (16, 16, 16), (24, 16, 16), (40, 16, 16)], Fit((8, 16, 24, 40), (0, 1, 2, 3), (4, 2, 1, 1))),
        ([(16, 16, 16), (24, 8, 8), (40, 4, 4)], Fit((32, 16, 24, 40), (1, 2, 3))),
        ([(40, 4, 4)], Fit((32, 64, 128, 40), (3,))),
        ([(40, 16, 16)], Fit((32, 40, 128, 256), (1,))),
        ([(9, 8, 8)] * 4, Fit((9, 9, 9, 9), (0, 1, 2, 3), (4, 2, 2, 1))),
        ([(40,)], Fit((32, 64, 128, 40), (3,), pooled=True)),
        ([(64, 40)], Fit((32, 64, 128, 40), (3,), pooled=True)),
        ([(4, 64, 64), *[(8, 32, 32), (16, 16, 16), (24, 8, 8), (40, 4, 4)]], Fit((8, 16, 24, 40), (0, 1, 2, 3))),
    ],
)
def test_the_net_that_fits(shapes, found):
    assert fit(shapes, 128) == found
    cfg = backbone_config(PELK, found, {'type': 'Any', 'depth': 50, 'frozen_stages': 9, 'in_channels': 5})
    assert cfg.pop('type') == PELK
    net = PeLK(**cfg)
    outputs = net(torch.rand(1, 5, 64, 64))
    assert [output.shape[1] for output in outputs] == [found.channels[index] for index in found.out_indices]
    assert all(output.ndim == (2 if found.pooled else 4) for output in outputs)


def test_what_is_kept_of_the_original():
    original = {'type': 'Any', 'frozen_stages': 1, 'norm_eval': True, 'with_cp': False, 'style': 'pytorch'}
    pelk, convnext = (backbone_config(kind, fit([(8, 4, 4)], 128), original) for kind in (PELK, CONVNEXT))
    assert (pelk['frozen_stages'], pelk['norm_eval'], pelk['with_cp']) == (1, True, False)
    assert not {'norm_eval', 'strides', 'width_factor', 'style'} & set(convnext)
    assert pelk['arch'] == convnext['arch']


def test_backbones_of_a_config():
    same, other = {'type': 'A', 'depth': 50}, {'type': 'B'}
    model = {
        'teacher': {'backbone': dict(same), 'neck': {'type': 'N'}},
        'reid': {'backbone': other},
        'parts': [{'backbone': dict(same)}],
    }
    assert find_backbones(model) == [('teacher', 'backbone'), ('reid', 'backbone'), ('parts', 0, 'backbone')]
    new, kept = replace_backbones(model, {'type': 'C'})
    assert (new['teacher']['backbone'], new['parts'][0]['backbone']) == ({'type': 'C'}, {'type': 'C'})
    assert (new['reid']['backbone'], kept, model['teacher']['backbone']) == (other, 1, same)
    inner = {'backbone': {'type': 'Wrapper', 'backbone': dict(same)}}
    assert find_backbones(inner) == [('backbone', 'backbone')]
    assert find_backbones({'type': 'M', 'neck': {'type': 'N'}}) == []


def test_configs_are_ranked_and_freed_of_weights(tmp_path, monkeypatch):
    folder = tmp_path / 'configs' / 'net'
    folder.mkdir(parents=True)
    (tmp_path / 'configs' / '_base_').mkdir()
    for name in ('net_r50_long', 'net_r18', 'net_r50', 'a_r50', 'net_tta', '_part', 'net_r50_headless'):
        (folder / f'{name}.py').write_text("a = 1\nb = dict(type='B', init_cfg=1, pretrained=True)\nc = [dict(b=b)]\n")
    monkeypatch.setattr(configs, 'configs_folder', lambda toolbox: tmp_path)
    (method,) = find_methods(['mmdet'])
    assert [file.stem for file in method.configs] == ['net_r50', 'net_r50_long', 'net_r18', 'a_r50', 'net_r50_headless']
    assert read_config(method.configs[0]) is None
    with pytest.raises(ConfigError, match="no method 'nett' in mmdet; near ones: net"):
        find_methods(['mmdet'], ['nett'])
    whole = folder / 'whole.py'
    whole.write_text(
        f"{method.configs[0].read_text()}model = dict(type='M', parts=c)\ndata_preprocessor = dict(mean=[1])"
    )
    cfg = read_config(whole)
    assert cfg.model.parts[0].b == {'type': 'B', 'init_cfg': None, 'pretrained': False}
    assert cfg.model.data_preprocessor == {'mean': [1]}


def test_report():
    rows = [
        Row('mmdet', 'a', 'a.py', 'passes', pelk='passes'),
        Row('mmdet', 'b', 'b.py', 'OURS', 'loss: KeyError: x|y`z'),
        Row('mmseg', 'c', 'c.py', 'original fails', 'build: ImportError: ' + 'n' * 300, pelk='passes'),
        Row('mmseg', 'd', 'd.py', 'tied', 'loss: KeyError: x'),
        Row('mmseg', 'e', 'e.py', 'passes', unused=2, unused_in_backbone=1),
        Row('mmseg', 'f', 'f.py', 'passes', note='find_unused_parameters=True'),
    ]
    two = [DistributedRow('mmdet', 'a', 'passes'), DistributedRow('mmseg', 'e', 'iteration 2: RuntimeError: unread')]
    assert summary(rows, two) == [
        'Every parameter of PeLK gets a gradient in 2 of 3 methods that pass.',
        'In two processes 1 of 2 methods train with PeLK (the bar: 20).',
        '3 of 4 methods pass, 75.0 % (the bar: 95 %).',
    ]
    assert summary([])[-1] == '0 of 0 methods pass (the bar: 95 %).'
    assert line(rows[2]).endswith('n) [with PeLK: passes]')
    text = tables(rows, two)
    assert '| mmdet | 2 | 1 | 1 | 0 | 0 | 0 |' in text
    assert "| mmdet b | OURS | `loss: KeyError: x/y'z` |" in text
    assert '| mmseg | e, f |' in text
    assert '| mmseg e | `iteration 2: RuntimeError: unread` |' in text
    assert max(len(row) for row in text.splitlines()) < 300
    assert [row.method for row in choose(rows, 9)] == ['a']


def load_tool():
    spec = importlib.util.spec_from_file_location('existing_methods_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--toolbox', 'mmdett'], "error: --toolbox must be of mmdet, mmseg, mmpretrain, but got 'mmdett'"),
        (['--methods', 'retinanett'], "error: no method 'retinanett' in mmdet; near ones: retinanet"),
        (['--methods', '???'], "error: no method '???' in mmdet; there are fcos, retinanet"),
        (['--jobs', '0'], 'error: --jobs must be at least 1, but got 0'),
        (['--distributed', '-1'], 'error: --distributed must be at least 0, but got -1'),
        (['--timeout', '0'], 'error: --timeout must be positive, but got 0.0'),
        (['--methods', 'fcos', '--page', 'a.md'], 'error: --methods leaves methods out and --page lists all'),
        (['--page', 'absent.md'], 'error: absent.md cannot be read'),
        (['--json', '.'], 'error: . is a folder, not a file'),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, args, message):
    for name in ('fcos', 'retinanet'):
        (tmp_path / 'configs' / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configs, 'configs_folder', lambda toolbox: tmp_path)
    tool = load_tool()
    monkeypatch.setattr(tool, 'installed_toolboxes', lambda: ['mmdet'])
    assert run_tool(lambda: tool.main(args)) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count('\n') == 1


def test_a_toolbox_that_is_not_installed(monkeypatch):
    tool = load_tool()
    monkeypatch.setattr(tool, 'installed_toolboxes', lambda: ['mmseg'])
    with pytest.raises(ConfigError, match='--toolbox mmdet is not installed; there are mmseg'):
        tool.choose_toolboxes(['mmdet'])
    assert tool.choose_toolboxes(None) == ['mmseg']
    monkeypatch.setattr(tool, 'installed_toolboxes', list)
    with pytest.raises(ConfigError, match='none of mmdet, mmseg, mmpretrain is installed'):
        tool.choose_toolboxes(None)


def test_files_and_exit_status(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'page.md').write_text(f'before\n{START}\n{END}\nafter\n')
    tool = load_tool()
    monkeypatch.setattr(tool, 'installed_toolboxes', lambda: ['mmdet'])
    monkeypatch.setattr(tool, 'find_methods', lambda toolboxes, names: [METHOD])
    monkeypatch.setattr(tool, 'import_toolbox', lambda name: distributed)
    monkeypatch.setattr(distributed, '__version__', '1.2', raising=False)
    rows = [Row('mmdet', 'a', '1.py', 'passes')]
    monkeypatch.setattr(tool, 'try_methods', lambda methods, limits, jobs, tell: [tell(row) or row for row in rows])
    args = ['--json', 'rows.json', '--page', 'page.md']
    threads = torch.get_num_threads()
    try:
        assert tool.main(args) == 0
        rows.append(Row('mmdet', 'b', '2.py', 'OURS', 'loss: KeyError: x'))
        assert tool.main(['--json', 'rows.json', '--overwrite']) == 1
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().out.rstrip().endswith('1 of 2 methods pass, 50.0 % (the bar: 95 %).')
    assert [row['verdict'] for row in json.loads((tmp_path / 'rows.json').read_text())['rows']] == ['passes', 'OURS']
    page = (tmp_path / 'page.md').read_text()
    command = 'python tools/analysis_tools/existing_methods.py --json rows.json --page page.md'
    assert page.startswith(f'before\n{START}\n```bash\n{command}\n```\n\nprocessor ')
    assert 'mmdet 1.2.' in page
