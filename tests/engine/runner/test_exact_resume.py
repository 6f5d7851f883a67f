"""A run stopped anywhere and resumed ends bit by bit like the run that never stopped. Here it stops inside the test
process, which costs little; tests/tools/test_check_resume_tool.py kills real processes."""

from pathlib import Path

import pytest
from exact_task import EPOCHS, ITERATIONS
from forked import forget_earlier_runs, leave_configs_unformatted

from pelk_mm.analysis.resume.checkpoint_diff import checkpoint_differences
from pelk_mm.apis.train import train
from pelk_mm.checkpoints.loading import find_latest_checkpoint
from pelk_mm.utils.errors import InterruptedTrainingError


@pytest.fixture
def configs(tmp_path, monkeypatch):
    leave_configs_unformatted(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    Path('epochs.py').write_text(EPOCHS)
    Path('iterations.py').write_text(ITERATIONS)


def hooks(**stop):
    ema = {'type': 'EMAHook', 'momentum': 0.1, 'update_buffers': True}
    return {'custom_hooks': [ema, {'type': 'StopHook', **stop}] if stop else [ema]}


def check_exact(config, options, *stops):
    """Train to the end; then again, stopping and resuming on the way; compare the last checkpoints."""
    train(config, work_dir='whole', cfg_options={**options, **hooks()})
    resume = None
    for stop in stops:
        forget_earlier_runs()
        with pytest.raises(InterruptedTrainingError):
            train(config, work_dir='stopped', resume=resume, cfg_options={**options, **hooks(**stop)})
        resume = 'auto'
    forget_earlier_runs()
    train(config, work_dir='stopped', resume=resume, cfg_options={**options, **hooks()})
    last = [find_latest_checkpoint(folder) for folder in ('whole', 'stopped')]
    assert last[0].name == last[1].name
    lines, compared = checkpoint_differences(*last)
    assert not lines
    assert compared > 100
    assert {path.name for path in Path('whole').glob('best_*')} == {
        path.name for path in Path('stopped').glob('best_*')
    }


MID_EPOCH = {'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 4}
WORKERS = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True}


@pytest.mark.usefixtures('configs')
@pytest.mark.parametrize(
    ('config', 'options', 'stops'),
    [
        ('epochs.py', {}, [{'at': 8}, {'at': 13}]),
        ('epochs.py', {}, [{'in_validation': 6}, {'in_validation': 12}]),
        ('epochs.py', MID_EPOCH, [{'at': 9}, {'at': 14}, {'at': 18}]),
        ('epochs.py', {**MID_EPOCH, 'default_hooks.checkpoint.interval': 6, **WORKERS}, [{'at': 7}]),
        ('epochs.py', {**MID_EPOCH, 'optim_wrapper.accumulative_counts': 3}, [{'at': 10}]),
        ('iterations.py', {}, [{'at': 7}, {'at': 16}]),
        ('iterations.py', {**WORKERS, 'default_hooks.checkpoint.interval': 5}, [{'in_validation': 10}]),
        ('iterations.py', {'train_dataloader.sampler.type': 'DefaultSampler'}, [{'at': 7}, {'at': 13}]),
        ('iterations.py', {'randomness.diff_rank_seed': True}, [{'at': 7}]),
    ],
)
def test_stopped_and_resumed_is_never_stopped(config, options, stops):
    check_exact(config, options, *stops)
