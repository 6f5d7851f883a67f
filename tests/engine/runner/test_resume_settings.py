"""Resuming with another config: what would corrupt is refused, what is safe is named in one line."""

import copy
from pathlib import Path

import pytest
import torch
from forked import forget_earlier_runs, leave_configs_unformatted

from pelk_mm.apis.train import train
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.engine.runner.run_settings import compare_flat, flatten
from pelk_mm.utils.errors import CheckpointError

FIRST = 'work_dirs/toy/epoch_1.pth'


@pytest.fixture
def stopped(toy_config, monkeypatch):
    """A config whose run has ended after one epoch, by its own settings."""
    leave_configs_unformatted(monkeypatch.setattr)
    train(toy_config, cfg_options={'train_cfg.max_epochs': 1, 'custom_hooks': [{'type': 'EMAHook'}]})
    return toy_config


def go_on(config, resume='auto', **options):
    """Resume; return what the log says about settings that differ."""
    forget_earlier_runs()
    options = {'train_cfg.max_epochs': 1, 'custom_hooks': [{'type': 'EMAHook'}], **options}
    runner = train(config, resume=resume, cfg_options=options)
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    return [line.split('written with: ')[1] for line in log.splitlines() if 'with other settings' in line]


def content():
    """What the run keeps in its folder. The lock names the process that has just taken it."""
    files = (path for path in Path('work_dirs/toy').glob('*.*') if path.is_file() and path.name != '.lock')
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ('options', 'finding'),
    [
        ({'optim_wrapper.optimizer': {'type': 'SGD', 'lr': 0.1, '_delete_': True}}, 'optimizer AdamW then, SGD now'),
        (
            {'optim_wrapper.paramwise_cfg': {'custom_keys': {'head': {'lr_mult': 2.0}}}},
            '1 parameter groups in the optimizer then, 6 now',
        ),
        (
            {'param_scheduler': [{'type': 'PolyLR'}]},
            'param_scheduler LinearLR then, PolyLR now',
        ),
        ({'train_dataloader.batch_size': 2}, '1 process(es) of batch size 4 then, 1 process(es) of batch size 2 now'),
        ({'train_dataloader.dataset.size': 12}, '8 training samples then, 12 now'),
        ({'train_dataloader.sampler.shuffle': True}, 'train_dataloader.sampler.shuffle False -> True'),
        ({'train_cfg': {'by_epoch': False, 'max_iters': 9, '_delete_': True}}, 'EpochLoop then, ResumableIterLoop now'),
        ({'custom_hooks': []}, 'averaged weights (EMAHook) then, none now'),
        ({'model.width': 4}, 'does not fit the model of the config'),
    ],
)
def test_what_would_corrupt_is_refused(stopped, options, finding):
    before = content()
    with pytest.raises(CheckpointError) as caught:
        go_on(stopped, **options)
    assert finding in str(caught.value)
    assert FIRST in str(caught.value)
    assert content() == before


def test_what_is_safe_is_named_in_one_line(stopped):
    assert go_on(stopped) == []
    found = go_on(stopped, FIRST, **{
        'work_dir': 'elsewhere',
        'train_dataloader.num_workers': 1,
        'train_cfg.max_epochs': 2,
        'optim_wrapper.optimizer.lr': 0.5,
        'default_hooks.logger': {'type': 'LoggerHook', 'interval': 7},
    })  # fmt: skip
    assert len(found) == 1
    assert sorted(found[0].split('; ')) == [
        'default_hooks.logger absent -> set',
        "optim_wrapper.optimizer.lr 0.01 -> 0.5 (the checkpoint's holds)",
        'train_cfg.max_epochs 1 -> 2',
        'train_dataloader.num_workers absent -> 1',
        "work_dir 'work_dirs/toy' -> 'elsewhere'",
    ]
    # The learning rate is indeed the old one.
    assert read_checkpoint('elsewhere/epoch_2.pth')['optimizer']['param_groups'][0]['initial_lr'] == 0.01


def test_another_number_of_processes(stopped):
    checkpoint = read_checkpoint(FIRST)
    settings = checkpoint['meta']['run_state']['settings']
    settings.update(processes=2)
    torch.save(checkpoint, 'two.pth')
    message = '2 process.es. of batch size 4 then, 1 process.es. of batch size 4 now.*load_from=PATH'
    with pytest.raises(CheckpointError, match=message):
        go_on(stopped, 'two.pth', **{'train_cfg.max_epochs': 2})
    settings.update(batch_size=2)
    torch.save(checkpoint, 'two.pth')
    found = go_on(stopped, 'two.pth', **{'train_cfg.max_epochs': 2})
    assert found[0].startswith('2 process(es) of batch size 2 -> 1 process(es) of batch size 4, which are the same sam')


def test_checkpoint_of_another_runner(stopped):
    """mmengine's own goes on as mmengine does, and says so."""
    checkpoint = read_checkpoint(FIRST)
    del checkpoint['meta']['run_state']
    torch.save(checkpoint, 'theirs.pth')
    runner = train(
        stopped, resume='theirs.pth', cfg_options={'train_cfg.max_epochs': 2, 'custom_hooks': [{'type': 'EMAHook'}]}
    )
    assert runner.iter == 4
    assert 'theirs.pth holds no random states' in max(Path('work_dirs/toy').glob('*/*.log')).read_text()


def test_settings_are_plain_and_compared_part_by_part():
    cfg = {
        'model': {'type': torch.nn.Linear, 'sizes': (1, 2), 'empty': {}},
        'custom_hooks': [{'type': 'A', 'x': 1.5}, {'type': 'B'}],
        'randomness': {'seed': 3, 'deterministic': True},
        'variable_of_the_file': 1,
    }
    flat = flatten(cfg)
    assert flat == {
        'model.type': 'torch.nn.modules.linear.Linear',
        'model.sizes': '[1, 2]',
        'model.empty': '{}',
        'custom_hooks.0.type': "'A'",
        'custom_hooks.0.x': '1.5',
        'custom_hooks.1.type': "'B'",
        'randomness.deterministic': 'True',
    }
    other = copy.deepcopy(cfg)
    other['model']['sizes'] = [1, 3]
    other['val_cfg'] = {'fp16': True, 'type': 'V'}
    del other['custom_hooks'][1]
    assert dict(compare_flat(flat, flatten(other))) == {
        'model.sizes': ('[1, 2]', '[1, 3]'),
        'custom_hooks.1': ('set', 'absent'),
        'val_cfg': ('absent', 'set'),
    }
