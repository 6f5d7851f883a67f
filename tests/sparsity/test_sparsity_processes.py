"""Two processes with different data keep the same masks."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from children import LIMIT, started
from forked import free_port

pytestmark = [pytest.mark.slow, pytest.mark.processes]

TESTS = Path(__file__).parents[1]
RANK = """
import copy
import os
import sys

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pelk_mm import DynamicSparsityHook
from pelk_mm.sparsity.state import check_identical
from pelk_mm.apis.train import train


@HOOKS.register_module()
class FirstGradients(Hook):
    priority = 'HIGHEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            model = copy.deepcopy(runner.model.module)
            model(**data_batch, mode='loss')['loss'].backward()
            self.first = {n: (w.detach().clone(), w.grad) for n, w in model.named_parameters() if w.ndim > 1}


runner = train(sys.argv[1], launcher='pytorch')
sparse = next(hook for hook in runner.hooks if isinstance(hook, DynamicSparsityHook))
masks = {name: mask.clone() for name, mask in sparse.state.masks.items()}
rank = int(os.environ['RANK'])
try:
    sparse.state.masks['backbone.0.weight'][0, 0] ^= rank == 1
    check_identical(sparse.state.masks, 'in this test')
    message = ''
except RuntimeError as error:
    message = str(error)
first = next(hook for hook in runner.hooks if isinstance(hook, FirstGradients)).first
seeds = (runner.seed, sparse.state.seed)
torch.save({'masks': masks, 'first': first, 'message': message, 'seeds': seeds}, f'rank{rank}.pt')
os._exit(0)  # at once: while the interpreter ends, a thread of the process group may still abort it
"""
HOOKS = """
train_cfg = dict(by_epoch=True, max_epochs=3)
randomness = dict(seed=3, diff_rank_seed=True)
train_dataloader['dataset'] = dict(type='ToyData', size=24)
model = dict(type='ToyModel', width=30)
custom_hooks = [
    dict(type='pelk_mm.DynamicSparsityHook', update_interval=2, sparsity=0.6),
    dict(type='FirstGradients'),
]
"""


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What each of two processes found."""
    from toy_task import CONFIG

    folder = tmp_path_factory.mktemp('processes')
    (folder / 'toy.py').write_text(CONFIG + HOOKS)
    (folder / 'rank.py').write_text(RANK)
    port = str(free_port())
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(TESTS), str(TESTS.parent)]), 'OMP_NUM_THREADS': '1'}
    env['PELK_MM_ALLOW_CPU'] = '1'
    env |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'WORLD_SIZE': '2', 'CUDA_VISIBLE_DEVICES': ''}
    command = [sys.executable, 'rank.py', 'toy.py']
    options = {'cwd': folder, 'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(command, env={**env, 'RANK': str(rank), 'LOCAL_RANK': str(rank)}, **options))
            for rank in range(2)
        ]
        errors = [process.communicate(timeout=LIMIT)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
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
