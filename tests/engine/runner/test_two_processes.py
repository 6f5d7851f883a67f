"""Two processes train as one process with both their batches does."""

import json
import os
from pathlib import Path

import pytest
import torch
from exact_task import EPOCHS, ITERATIONS
from forked import Training, forget_earlier_runs, leave_configs_unformatted

from pelk_mm.apis.train import train
from pelk_mm.checkpoints.loading import find_latest_checkpoint
from pelk_mm.checkpoints.reading import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def losses(folder):
    """Mean over the processes of each iteration's loss."""
    files = sorted(Path(folder).glob('*.jsonl'))
    columns = [[json.loads(line)['loss'] for line in file.read_text().splitlines()] for file in files]
    return len(files), torch.tensor(columns, dtype=torch.float64).mean(0)


def options(folder, batch_size):
    return {
        'model.norm_eval': True,
        'model.dropout': 0.0,
        'train_dataloader.batch_size': batch_size,
        'train_dataloader.dataset.size': 24,
        'custom_hooks': [{'type': 'RecordHook', 'folder': folder}],
    }


@pytest.mark.parametrize('text', [EPOCHS, ITERATIONS], ids=['epochs', 'iterations'])
def test_two_processes_train_as_one_with_the_whole_batch(tmp_path, monkeypatch, text):
    """The samples are augmented at random: each as its place in the order of all processes says."""
    monkeypatch.chdir(tmp_path)
    leave_configs_unformatted(monkeypatch.setattr)
    Path('config.py').write_text(text)
    common = {'config': 'config.py', 'no_validate': True}
    pair = Training('output.txt', {**common, 'work_dir': 'two', 'cfg_options': options('losses/two', 4)}, 2)
    train(**common, work_dir='one', cfg_options=options('losses/one', 8))
    assert pair.wait() == 0, Path('output.txt').read_text()[-3000:]
    (one, expected), (two, found) = losses('losses/one'), losses('losses/two')
    assert (one, two) == (1, 2)
    assert len(expected) >= 12
    assert expected.unique().numel() == len(expected)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    states = [read_checkpoint(find_latest_checkpoint(folder))['state_dict'] for folder in ('one', 'two')]
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, rtol=1e-4, atol=1e-6, msg=name)


def be_on_another_machine():
    """Let the second process see a work directory of its own."""
    if os.environ['RANK'] == '1':
        Path('elsewhere').mkdir()
        os.chdir('elsewhere')


def test_one_goes_on_with_two_but_never_from_different_iterations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leave_configs_unformatted(monkeypatch.setattr)
    Path('config.py').write_text(EPOCHS)
    common = {'config': str(tmp_path / 'config.py'), 'no_validate': True, 'work_dir': 'runs'}
    more = {'train_cfg.max_epochs': 2}
    train(**common, cfg_options={**options('losses', 8), 'train_cfg.max_epochs': 1})
    pair = {**common, 'resume': 'auto', 'cfg_options': {**options('losses/two', 4), **more}}
    assert Training('apart.txt', pair, 2, be_on_another_machine).wait() == 2
    assert (
        'error: process 0 starts from iteration 3, process 1 from iteration 0: the work directory'
        in Path('apart.txt').read_text()
    )
    assert not Path('losses/two').exists()
    assert Training('together.txt', pair, 2).wait() == 0
    assert '1 process(es) of batch size 8 -> 2 process(es) of batch size 4' in Path('together.txt').read_text()
    forget_earlier_runs()
    train(**common, resume='runs/epoch_1.pth', cfg_options={**options('losses/one', 8), **more})
    torch.testing.assert_close(losses('losses/two')[1], losses('losses/one')[1], rtol=1e-5, atol=0)
