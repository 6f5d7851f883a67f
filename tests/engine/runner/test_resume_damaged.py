"""Checkpoints of our own that were damaged or changed: resuming stops with the entry's name, before the first step."""

import math

import pytest
import torch

from pelk_mm.apis.train import train
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.checkpoints.schema import check
from pelk_mm.engine.runner.run_state import KEY, RULE
from pelk_mm.utils.errors import CheckpointError

LAST = 'work_dirs/toy/epoch_1.pth'


@pytest.fixture
def checkpoint(toy_config):
    train(toy_config, cfg_options={'train_cfg.max_epochs': 1})
    return read_checkpoint(LAST)


def test_the_state_of_a_run_keeps_to_its_rule(checkpoint, toy_config):
    state = checkpoint['meta'][KEY]
    check(state, RULE, KEY, LAST)
    random = state['processes'][0]['random']
    for place, value in ((-1, 625), (-1, -1), (0, 1 << 32)):
        kept = random['numpy'].clone()
        random['numpy'][place] = value
        with pytest.raises(CheckpointError, match=r'run_state.processes\[0\].random.numpy must be words of 32 bits'):
            check(state, RULE, KEY, LAST)
        random['numpy'] = kept
    random['python'] = random['python'][:-1]
    torch.save(checkpoint, 'changed.pth')
    with pytest.raises(CheckpointError, match=r'meta.run_state.processes\[0\].random.python must be a dense tensor'):
        train(toy_config, resume='changed.pth')


def test_optimizer_tensors_of_another_shape(checkpoint, toy_config):
    checkpoint['optimizer']['state'][0]['exp_avg'] = torch.zeros(1)
    torch.save(checkpoint, 'changed.pth')
    with pytest.raises(CheckpointError, match=r'exp_avg of the optimizer has shape \(1,\) for backbone.0.weight'):
        train(toy_config, resume='changed.pth')


def test_a_run_that_diverged_is_not_resumed(checkpoint, toy_config):
    for value in checkpoint['state_dict'].values():
        if value.is_floating_point():
            value.fill_(math.nan)
    torch.save(checkpoint, 'changed.pth')
    with pytest.raises(CheckpointError, match='hold NaN .* diverged; use an earlier checkpoint'):
        train(toy_config, resume='changed.pth')
