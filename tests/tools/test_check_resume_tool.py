"""tools/analysis_tools/check_resume.py prints a verdict for each kill; its trainings are played by a script here."""

import signal
import sys
from pathlib import Path

import pytest
import torch
from children import started, wait_for
from tool_runner import load_tool, run

from pelk_mm.analysis.resume.checkpoint_diff import differences
from pelk_mm.analysis.resume.kill_and_compare import is_alive, kill_tree

# Writes what a training of 8 iterations leaves, faster than one; after resuming it ends as FAULT says. One that is to
# be killed goes on until it is.
PLAYED = """
import shutil, sys, time
from pathlib import Path

work_dir = Path(sys.argv[sys.argv.index('--work-dir') + 1])
resumed = '--resume' in sys.argv
(work_dir / 'run').mkdir(parents=True, exist_ok=True)
for i in range(8):
    with open(work_dir / 'run' / 'train.log', 'a') as file:
        file.write('11/21 10:00:00 - mmengine - INFO - Iter(train) [1/8]\\n')
    time.sleep(0.1)
if work_dir.name.startswith('killed') and not resumed:
    time.sleep(600)
shutil.copy('fault.pth' if resumed and FAULT else 'right.pth', work_dir / 'iter_8.pth')
"""


def play(monkeypatch, tmp_path, fault):
    script = tmp_path / 'train.py'
    script.write_text(PLAYED.replace('FAULT', str(fault)))
    tool = load_tool('analysis_tools/check_resume.py')
    monkeypatch.setattr(tool, 'TOOLS', tmp_path)
    Path('toy.py').write_text("model = dict(type='X')\n")
    for name, value in (('right', 1.0), ('fault', 1.25)):
        torch.save({'state_dict': {'w': torch.tensor([1.0, value, 1.0])}}, f'{name}.pth')
    return tool.main(['toy.py', '--kills', '2', '--work-dir', 'runs'])


def test_equal_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert play(monkeypatch, tmp_path, False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith('kill  1: killed in iteration ')
    assert lines[1].endswith(', started again, no checkpoint yet: equal in all 1 values')
    assert lines[3].startswith('2 of 2 killed runs end as the run never killed (')
    assert not Path('runs/killed').exists()


def test_a_run_that_goes_on_otherwise(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert play(monkeypatch, tmp_path, True) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "1 of 1 values differ, such as ['state_dict.w: (3,) torch.float32, largest difference 0.25']" in lines[1]
    assert lines[3].startswith('0 of 2 killed runs end')
    assert Path('runs/killed/iter_8.pth').exists()


def test_bad_input(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert run('analysis_tools/check_resume.py', 'none.py') == 2
    assert 'error: config none.py does not exist' in capsys.readouterr().err
    Path('toy.py').write_text("model = dict(type='X')\n")
    assert run('analysis_tools/check_resume.py', 'toy.py', '--kills', 0) == 2
    assert 'error: --kills must be at least 1, but got 0' in capsys.readouterr().err
    Path('runs').mkdir()
    Path('runs/old.pth').touch()
    assert run('analysis_tools/check_resume.py', 'toy.py', '--work-dir', 'runs') == 2
    assert 'error: runs is not empty: name a new folder' in capsys.readouterr().err


@pytest.mark.processes
def test_processes_in_sessions_of_their_own_are_killed_too(tmp_path):
    """torchrun starts its processes so: they would go on training beside the resumed run."""
    inner = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    outer = 'import subprocess, sys; subprocess.run([sys.executable, "-c", sys.argv[1]], start_new_session=True)'
    note = tmp_path / 'pid'
    with started([sys.executable, '-c', outer, inner]) as process:
        wait_for(lambda: note.exists() and note.read_text() != '', process=process)
        kill_tree(process.pid)
        assert process.wait() == -signal.SIGKILL
        assert not is_alive(int(note.read_text()))


def test_differences_are_bits():
    nan = float('nan')
    first = {'a': torch.tensor([0.0, nan]), 'b': [1, 2.0, nan], 'c': {'x': 1}, 'meta': {'time': 1}}
    second = {'a': torch.tensor([-0.0, nan]), 'b': [1, 2, nan], 'c': {'y': 1}, 'meta': {'time': 2}}
    assert [line for line in differences(first, second) if line] == [
        'a: (2,) torch.float32, largest difference nan',
        'b.1: 2.0 and 2',
        'c.x: only in the first',
        'c.y: only in the second',
    ]
    assert not [line for line in differences(first, first) if line]
    wider = {'a': torch.tensor([0.0, nan], dtype=torch.float64)}
    assert list(differences({'a': first['a']}, wider)) == ['a: (2,) torch.float32 and (2,) torch.float64']
