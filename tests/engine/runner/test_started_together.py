"""Two trainings in one folder: exactly one trains."""

import os
from pathlib import Path

import pytest
from exact_task import EPOCHS
from forked import Training

from pelk_mm.checkpoints.reading import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.processes]

# Five in the suite; PELK_MM_STARTS asks for more.
STARTS = int(os.environ.get('PELK_MM_STARTS', '5'))


@pytest.mark.parametrize('resume', [None, 'auto'])
def test_exactly_one_trains(tmp_path, monkeypatch, resume):
    monkeypatch.chdir(tmp_path)
    Path('epochs.py').write_text(EPOCHS + "custom_hooks = [dict(type='DelayHook', seconds=0.05)]\n")
    for number in range(STARTS):
        arguments = {'config': 'epochs.py', 'work_dir': f'run{number}', 'resume': resume}
        trainings = [Training(f'{number}_{each}.txt', arguments) for each in 'ab']
        # wait() of one that fails kills nothing of the other: each has a process of its own
        statuses = [training.wait() for training in trainings]
        assert sorted(statuses) == [0, 2], statuses
        refused = Path(f'{number}_{"ab"[statuses.index(2)]}.txt').read_text().splitlines()[-1]
        assert refused.startswith(f'error: another training is running in run{number} (process '), refused
        assert read_checkpoint(f'run{number}/epoch_4.pth')['meta']['epoch'] == 4
