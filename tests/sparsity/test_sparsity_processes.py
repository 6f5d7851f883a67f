"""Two processes with different data keep the same masks."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Training
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pelk_mm import DynamicSparsityHook
from pelk_mm.sparsity.state import check_identical

pytestmark = [pytest.mark.slow, pytest.mark.processes]

CHANGES = """
train_cfg = dict(by_epoch=True, max_epochs=3)
randomness = dict(seed=3, diff_rank_seed=True)
train_dataloader['dataset'] = dict(type='ToyData', size=24)
model = dict(type='ToyModel', width=30)
custom_hooks = [
    dict(type='pelk_mm.DynamicSparsityHook', update_interval=2, sparsity=0.6),
    dict(type='FindingsHook'),
]
"""


class FindingsHook(Hook):
    """Keeps the first gradients of this process's own batch; at the end, writes down all that the tests look at."""

    priority = 'HIGHEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            model = copy.deepcopy(runner.model.module)
            model(**data_batch, mode='loss')['loss'].backward()
            self.first = {n: (w.detach().clone(), w.grad) for n, w in model.named_parameters() if w.ndim > 1}

    def after_run(self, runner):
        sparse = next(hook for hook in runner.hooks if isinstance(hook, DynamicSparsityHook))
        masks = {name: mask.clone() for name, mask in sparse.state.masks.items()}
        rank = int(os.environ['RANK'])
        try:
            sparse.state.masks['backbone.0.weight'][0, 0] ^= rank == 1
            check_identical(sparse.state.masks, 'in this test')
            message = ''
        except RuntimeError as error:
            message = str(error)
        seeds = (runner.seed, sparse.state.seed)
        torch.save({'masks': masks, 'first': self.first, 'message': message, 'seeds': seeds}, f'rank{rank}.pt')


def register():
    HOOKS.register_module(module=FindingsHook)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What each of two processes found."""
    from toy_task import CONFIG

    folder = tmp_path_factory.mktemp('processes')
    (folder / 'toy.py').write_text(CONFIG + CHANGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        training = Training('output.txt', {'config': 'toy.py'}, 2, register)
        assert training.wait() == 0, Path('output.txt').read_text()
    return [torch.load(folder / f'rank{rank}.pt') for rank in range(2)]


def test_masks_are_the_same(ranks):
    assert ranks[0]['seeds'] == (3, 3)
    assert ranks[1]['seeds'] == (4, 3)  # the processes' own random choices differ, the masks' do not
    assert ranks[0]['masks'].keys() == ranks[1]['masks'].keys() == {'backbone.0.weight', 'head.weight'}
    for name, mask in ranks[0]['masks'].items():
        assert torch.equal(mask, ranks[1]['masks'][name])


def test_densities_come_from_the_averaged_gradients(ranks):
    first = [{name: [tensor.numpy() for tensor in pair] for name, pair in rank['first'].items()} for rank in ranks]
    assert all(np.array_equal(first[0][name][0], first[1][name][0]) for name in first[0])
    assert any(not np.allclose(first[0][name][1], first[1][name][1]) for name in first[0])
    scores = {name: abs(pair[0] * (pair[1] + first[1][name][1]) / 2) for name, pair in first[0].items()}
    ranked = np.sort(np.concatenate([score.ravel() for score in scores.values()]))[::-1]
    keep = round(0.4 * ranked.size)
    for name, score in scores.items():
        assert int(ranks[0]['masks'][name].sum()) == (score >= ranked[keep - 1]).sum()


def test_masks_that_differ_are_found(ranks):
    for rank in ranks:
        assert 'in this test the sparsity masks of process 1 differ' in rank['message']
        assert rank['message'].count('.weight') == 1
        assert 'backbone.0.weight' in rank['message']
