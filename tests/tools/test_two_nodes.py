"""Two machines, played by this one: dist_train.sh with NNODES=2, a process on each."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from children import LIMIT, started
from forked import free_port
from tool_runner import ROOT, run

pytestmark = [pytest.mark.slow, pytest.mark.processes]

FIXED = """
custom_imports = dict(imports=['exact_task'], allow_failed_imports=False)
custom_hooks = [dict(type='RecordHook', folder='losses')]
model['backbone']['norm_eval'] = True
train_cfg['max_epochs'] = 3
train_dataloader['sampler']['shuffle'] = True
randomness = dict(seed=0)
"""


def losses(folder):
    columns = [
        [json.loads(line)['loss'] for line in file.read_text().splitlines()] for file in Path(folder).glob('*.jsonl')
    ]
    return len(columns), torch.tensor(columns, dtype=torch.float64).mean(0)


def test_two_nodes_train_as_one_process_with_the_whole_batch(project):
    with open('cls.py', 'a') as file:
        file.write(FIXED)
    port = free_port()
    env = {name: value for name, value in os.environ.items() if name not in ('RANK', 'LOCAL_RANK')}
    env.update(PYTHONPATH=str(ROOT / 'tests'), PYTHON=sys.executable, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    env.update(PELK_MM_ALLOW_CPU='1', NNODES='2', MASTER_ADDR='127.0.0.1', PORT=str(port))
    command = ['bash', str(ROOT / 'tools' / 'dist_train.sh'), 'cls.py', '1', '--work-dir', 'two', '--cfg-options']
    command += ['train_dataloader.batch_size=1', 'custom_hooks.0.folder=two_losses']
    outputs = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE}
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(started(command, env={**env, 'NODE_RANK': str(rank)}, **outputs)) for rank in range(2)
        ]
        assert run('train.py', 'cls.py', '--work-dir', 'one') == 0
        errors = [node.communicate(timeout=LIMIT)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    (one, expected), (two, found) = losses('losses'), losses('two_losses')
    assert (one, two, len(expected)) == (1, 2, 6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    weights = [torch.load(f'{folder}/epoch_3.pth', weights_only=False)['state_dict'] for folder in ('one', 'two')]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-5, msg=name)
