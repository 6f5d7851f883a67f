import json

import pytest
from tool_runner import run


def test_prints_a_table(tmp_path, capsys):
    log = tmp_path / 'run' / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({'mIoU': 40.5}) + '\n')
    assert run('analysis_tools/compare_runs.py', f'net={tmp_path / "run"}', '--metric', 'mIoU') == 0
    assert '| net | 1 | 40.50 | - | 40.50 | 40.50 |' in capsys.readouterr().out


def test_bad_input(tmp_path, capsys):
    assert run('analysis_tools/compare_runs.py', f'net={tmp_path}') == 2
    assert 'holds no' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run('analysis_tools/compare_runs.py', str(tmp_path))
    assert 'expected NAME=DIR' in capsys.readouterr().err
