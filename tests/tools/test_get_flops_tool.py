import json
import os
import sys

import pytest
from children import run as run_process
from tool_runner import ROOT, run

TOOL = 'analysis_tools/get_flops.py'
KEYS = {'params', 'params_nonzero', 'macs', 'macs_by_component', 'params_pos_embed'}


@pytest.mark.parametrize('task', ['seg', 'cls', 'det'])
def test_counts_every_kind_of_model(project, capsys, task):
    reports = []
    for sparsity in ([], ['--sparsity', 0.4]):
        assert run(TOOL, f'{task}.py', '--shape', 64, 96, *sparsity, '--json', 'new/counts.json', '--overwrite') == 0
        out = capsys.readouterr().out
        reports.append(json.loads((project / 'new' / 'counts.json').read_text()))
        assert f'{reports[-1]["macs"]:,}' in out
        assert 'one image of 64x96' in out
    plain, sparse = reports
    assert [path.name for path in (project / 'new').iterdir()] == ['counts.json']
    for report in reports:
        assert set(report) > KEYS
        assert set(report['macs_by_component']) == {'ffn', 'large_kernel', 'downsample', 'pos_embed', 'head'}
        counts = [*report['macs_by_component'].values(), *(report[key] for key in KEYS - {'macs_by_component'})]
        assert all(type(count) is int for count in counts)
        assert sum(report['macs_by_component'].values()) == report['macs']
    assert plain['params'] == plain['params_nonzero'] == sparse['params'] > sparse['params_nonzero']
    assert plain['macs'] > sparse['macs'] > 0
    assert (plain['sparsity'], sparse['sparsity'], sparse['shape']) == (None, 0.4, [64, 96])


def test_deploy_and_options(project, capsys):
    assert run(TOOL, 'cls.py', '--shape', 64, 64, '--deploy', '--json', 'deployed.json') == 0
    assert ', deployed\n' in capsys.readouterr().out
    assert run(TOOL, 'cls.py', '--shape', 64, 64, '--json', 'plain.json') == 0
    options = ['--cfg-options', 'model.head.num_classes=9']
    assert run(TOOL, 'cls.py', '--shape', 64, 64, '--json', 'nine.json', *options) == 0
    deployed, plain, nine = (
        json.loads((project / f'{name}.json').read_text()) for name in ('deployed', 'plain', 'nine')
    )
    assert deployed['macs_by_component']['large_kernel'] < plain['macs_by_component']['large_kernel']
    assert nine['params'] - plain['params'] == 6 * (8 + 1)
    assert nine['macs'] - plain['macs'] == 6 * 8


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['absent.py', '--shape', 64, 64], 'error: config absent.py does not exist'),
        (['notes.txt', '--shape', 64, 64], 'error: config notes.txt is not a config'),
        (['seg.py', '--shape', 16, 64], 'PeLK takes images (N, 3, H, W) with H and W at least 32 pixels, but got'),
        (['seg.py', '--shape', -1, 64], 'error: --shape must be two positive numbers'),
        (['seg.py', '--shape', 64, 64, '--sparsity', 1], 'error: --sparsity must be in [0, 1), but got 1.0'),
        (['seg.py', '--shape', 64, 64, '--sparsity', -0.4], 'error: --sparsity must be in [0, 1), but got -0.4'),
        (['seg.py', '--shape', 64, 64, '--json', '.'], 'error: . is a folder, not a file'),
        (['seg.py', '--shape', 64, 64, '--json', 'notes.txt/a.json'], 'error: notes.txt/a.json cannot be written: '),
        (['plain.py', '--shape', 64, 64], 'must be a classifier (mmpretrain), segmentor (mmseg) or detector (mmdet)'),
        (['seg.py', '--shape', 64, 64, '--cfg-options', 'model.backbone.arch=huge'], 'error: cannot build the model'),
        (['seg.py', '--shape', 64, 64, '--sparsity', 0.4, '--deploy'], 'error: --sparsity counts the form that is'),
    ],
)
def test_bad_input_is_one_line(project, capsys, args, message):
    (project / 'notes.txt').write_text('no config')
    (project / 'plain.py').write_text("model = dict(type='pelk_mm.PeLK', arch='atto')\n")
    files = sorted(project.iterdir())
    assert run(TOOL, *args) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count('\n') == 1
    assert sorted(project.iterdir()) == files


@pytest.mark.slow
@pytest.mark.processes
def test_a_process_of_its_own(tmp_path):
    """As a user starts it; the largest published row."""
    pytest.importorskip('mmseg', reason='counts a segmentor')
    config = ROOT / 'configs' / 'upernet_pelk_b_101_ade20k.py'
    args = [config, '--shape', 512, 2048, '--sparsity', 0.4, '--json', tmp_path / 'counts.json']
    command = [sys.executable, ROOT / 'tools' / TOOL, *args]
    done = run_process(command, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / 'counts.json').read_text())['macs'] == pytest.approx(1339.1e9, rel=0.002)
