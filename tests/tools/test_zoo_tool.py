import re

import pytest
import torch
from tool_runner import run

from pelk_mm.benchmarks import harness
from pelk_mm.benchmarks.zoo import choice as zoo_choice
from pelk_mm.benchmarks.zoo import forms, measure, table
from pelk_mm.models import ShiftWiseNet
from pelk_mm.utils.files import END, START

TOOL = 'analysis_tools/zoo.py'
SPECK = table.Entry(
    'SW-T',
    'sw_t_imagenet',
    {
        'model.backbone.arch': 'speck',
        'model.backbone.kernel_sizes': (7, 7, 5, 5),
        'model.head.in_channels': 8,
    },
)
ABSENT = table.Entry('absent', 'sw_t_imagenet', {'model.backbone': {'_delete_': True, 'type': 'mmpretrain.Absent'}})


@pytest.fixture
def small(monkeypatch):
    pytest.importorskip('mmpretrain', reason='counts its classifiers')
    for module in (table, measure):
        monkeypatch.setattr(module, 'ENTRIES', (SPECK, ABSENT))
    speck = {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}
    monkeypatch.setattr(ShiftWiseNet, 'arch_settings', {'speck': speck})
    monkeypatch.setattr(harness, 'SAMPLE_SECONDS', 0.0)
    monkeypatch.setattr(forms, 'cache_bytes', lambda device: 0)


@pytest.mark.usefixtures('small')
def test_the_page_is_rewritten(tmp_path, capsys):
    page = tmp_path / 'page.md'
    page.write_text(f'before\n{START}\nold\n{END}\nafter\n')
    assert run(TOOL, '--page', page, '--size', 32, '--batch', 2, '--repeats', 1) == 0
    text = page.read_text()
    assert text.startswith(f'before\n{START}\n```bash\npython tools/analysis_tools/zoo.py --page')
    assert text.endswith(f'{END}\nafter\n')
    assert f'torch {torch.__version__}' in text
    assert 'batches of 2 images of 32 x 32' in text
    (row,) = [line for line in text.splitlines() if line.startswith('| SW-T')]
    images, gain = map(float, row.strip('|').split('|')[-2:])
    assert images > 0
    assert gain > 0
    assert 'SW-T against a loop' in text
    assert '- absent is left out: cannot build' in text
    assert text.split(START)[1].split(END)[0].strip() in capsys.readouterr().out


@pytest.mark.usefixtures('small')
def test_nets_of_one_size_side_by_side(monkeypatch, capsys):
    monkeypatch.setattr(zoo_choice, 'cache_bytes', lambda device: 0)
    arguments = ['--size', 32, '--batch', 2, '--train-batch', 2, '--repeats', 1]
    assert run(TOOL, '--choice', '--only', 'SW-T', *arguments) == 0
    out = capsys.readouterr().out
    assert 'batches of 2 images of 32 x 32, float32, 2 of them a training step' in out
    (row,) = [line for line in out.splitlines() if line.startswith('| SW-T')]
    assert '52.21 / 45.19 (Cascade Mask R-CNN)' in row
    assert run(TOOL, '--choice', '--only', 'absent', *arguments) == 2
    assert '--choice has no absent' in capsys.readouterr().err


@pytest.mark.usefixtures('small')
def test_a_wrong_merge_stops_it(monkeypatch, capsys):
    monkeypatch.setattr(forms, 'DEPLOY_BAR', 0.0)
    assert run(TOOL, '--only', 'SW-T', '--size', 32) == 1
    assert 'error: SW-T, deployed is wrong by' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--only', 'PeLK-T', 'ResNet'], '--only must be some of PeLK-T, PeLK-S, .*, but got ResNet'),
        (['--only', 'PeLK-T', '--page', 'docs/nets/zoo.md'], '--only leaves networks out and --page lists all'),
        (['--device', 'abacus'], "device must be 'cpu' or 'cuda', but got 'abacus'"),
    ],
)
def test_bad_flags(capsys, arguments, message):
    assert run(TOOL, *arguments) == 2
    assert re.search(message, capsys.readouterr().err)
