"""Signals at random moments of a tool's life, from its first imports on: one line and the right status."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from children import LIMIT, started
from tool_runner import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.processes]

WORDS = {'SIGINT': 'interrupted', 'SIGTERM': 'terminated', 'SIGHUP': 'hung up'}


def end_by(name, after, again, command, folder):
    """Start a tool and send a signal, or two, after some seconds; return its status and what it said."""
    number = getattr(signal, name)
    env = {**os.environ, 'PYTHONPATH': str(ROOT / 'tests'), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    outputs = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE}
    with started([sys.executable, *command], env=env, cwd=folder, **outputs) as process:
        time.sleep(after)
        process.send_signal(number)
        if again is not None:
            time.sleep(again)
            process.send_signal(number)
        _, err = process.communicate(timeout=LIMIT)
    # What comes while the interpreter itself ends kills it; shells give both the same status.
    return abs(process.returncode) % 128, [line for line in err.splitlines() if line]


def test_random_moments(toy_config, tmp_path):
    """Eight in the suite; PELK_MM_SIGNALS asks for more."""
    count = int(os.environ.get('PELK_MM_SIGNALS', '8'))
    chance = random.Random(count)
    options = ['--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=1000000']
    command = [ROOT / 'tools/train.py', toy_config, *options, '--overwrite']
    for i in range(count):
        name, after = chance.choice(['SIGINT', 'SIGINT', 'SIGTERM', 'SIGHUP']), chance.uniform(0.2, 6)
        again = chance.uniform(0, 0.3) if chance.random() < 0.4 else None
        status, lines = end_by(name, after, again, command, tmp_path)
        case = f'{i}: {name} after {after:.2f} s, again {again}: {lines}'
        assert status == getattr(signal, name), case
        assert [line.split(':')[0] for line in lines if line.split(':')[0] in WORDS.values()] == [WORDS[name]], case
        assert lines[-1].startswith(WORDS[name]), case
        assert not [line for line in lines if 'Traceback' in line or 'Error' in line], case
        assert not list(tmp_path.rglob('.*.partial')), case


@pytest.mark.parametrize('tool', ['test.py', 'predict.py', 'analysis_tools/zoo.py', 'model_converters/remove_masks.py'])
def test_every_kind_of_tool_ends_while_it_imports(tool, tmp_path):
    status, lines = end_by('SIGINT', 0.7, None, [ROOT / 'tools' / tool, '--help'], tmp_path)
    assert (status, lines) in (((signal.SIGINT, ['interrupted'])), (0, []))
