"""Real processes killed with SIGKILL, one and two of them, and in the middle of writing a checkpoint."""

import os
import signal
from pathlib import Path

import pytest
from exact_task import EPOCHS, ITERATIONS
from forked import Training
from mmengine.fileio import LocalBackend

from pelk_mm.analysis.resume.checkpoint_diff import checkpoint_differences
from pelk_mm.analysis.resume.kill_and_compare import kill_and_compare
from pelk_mm.checkpoints.loading import find_latest_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.processes]

SLOW = "custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='DelayHook', seconds=0.05)]\n"


@pytest.fixture(autouse=True)
def _configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('epochs.py').write_text(EPOCHS + SLOW)
    Path('iterations.py').write_text(ITERATIONS + SLOW)


def starter(config, processes=1, options=None, before=None):
    def start(work_dir, resume):
        arguments = {'config': config, 'work_dir': str(work_dir), 'resume': 'auto' if resume else None}
        return Training('output.txt', {**arguments, 'cfg_options': options}, processes, before)

    return start


def test_three_killed_runs_end_as_the_run_never_killed(tmp_path):
    """Workers, EMA, dropout, augmentation, validation, plateaus: the test fails if any of it goes on otherwise."""
    options = {'train_dataloader.num_workers': 1}
    verdicts = list(kill_and_compare(starter('iterations.py', options=options), tmp_path / 'runs', 3, seed=1))
    assert [verdict.differences for verdict in verdicts] == [[], [], []]
    assert all(verdict.compared > 100 for verdict in verdicts)
    assert any(verdict.resumed_from for verdict in verdicts), 'no kill fell behind the first checkpoint'


def test_signals_at_random_moments(tmp_path, record_property):
    """Ten in the suite; PELK_MM_KILLS asks for more. A resumed run clears what a kill has left."""
    kills = int(os.environ.get('PELK_MM_KILLS', '10'))
    signals = ['SIGTERM', 'SIGINT', 'SIGKILL']
    verdicts = []
    for verdict in kill_and_compare(starter('iterations.py'), tmp_path / 'runs', kills, seed=kills, signals=signals):
        verdicts.append(verdict)
        assert verdict.differences == [], f'kill {len(verdicts)}: {verdict}'
    record_property('verdicts', '\n'.join(map(str, verdicts)))
    assert {verdict.signal for verdict in verdicts} == set(signals)
    assert any(verdict.resumed_from for verdict in verdicts)


def test_two_processes_killed_in_the_middle_of_an_epoch(tmp_path):
    """Each process has its own dropout and its own statistics of BatchNorm."""
    options = {'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 2}
    options |= {
        'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.size': 24,
        'randomness.diff_rank_seed': True,
    }
    (verdict,) = kill_and_compare(starter('epochs.py', 2, options), tmp_path / 'runs', 1, seed=5)
    assert verdict.differences == []
    assert verdict.resumed_from is not None


def die_while_saving():
    """Write half of the second checkpoint, then die as by SIGKILL."""
    put = LocalBackend.put

    def put_half(self, data, path):
        if 'epoch_2' in str(path):
            put(self, data[: len(data) // 2], path)
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, data, path)

    LocalBackend.put = put_half


def test_killed_in_the_middle_of_writing_a_checkpoint(tmp_path):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    training = starter('epochs.py')(whole, False)
    assert starter('epochs.py', before=die_while_saving)(killed, False).wait() == -signal.SIGKILL
    assert len(list(killed.glob('.epoch_2.pth*.partial'))) == 1
    assert find_latest_checkpoint(killed).name == 'epoch_1.pth'
    assert starter('epochs.py')(killed, True).wait() == 0
    assert training.wait() == 0
    assert not list(killed.glob('.*.partial'))
    lines, _ = checkpoint_differences(whole / 'epoch_4.pth', killed / 'epoch_4.pth')
    assert not lines
