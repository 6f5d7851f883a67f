"""What only real processes show: Ctrl-C, the shell scripts, several processes."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from children import LIMIT, started, wait_for
from children import run as run_process
from forked import free_port
from tool_runner import ROOT, run

from pelk_mm.checkpoints.reading import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.processes]

TESTS = ROOT / 'tests'


@pytest.fixture
def environment():
    """Environment of a process that finds toy_task and may use CPUs only."""
    env = {name: value for name, value in os.environ.items() if name not in ('PORT', 'NNODES', 'RANK', 'LOCAL_RANK')}
    env.update(PYTHONPATH=str(TESTS), PYTHON=sys.executable, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    return env


@pytest.fixture
def recorder(tmp_path):
    """Programs that print how they were called: a Python that has the stack, and srun."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in ('recording_python', 'srun'):
        # The probe for the stack succeeds silently.
        (folder / name).write_text('#!/usr/bin/env bash\n[[ "$1" == -c ]] && exit 0\nprintf "%s\\n" "$0" "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def shell(script, *args, cwd, env):
    command = ['bash', str(ROOT / 'tools' / script), *map(str, args)]
    return run_process(command, cwd=cwd, env=env)


def test_ctrl_c_leaves_a_whole_checkpoint_and_resume_goes_on(toy_config, tmp_path, environment):
    with open(toy_config, 'a') as file:
        file.write("custom_hooks = [dict(type='ToyDelayHook', seconds=0.1)]\n")
    tool = str(ROOT / 'tools' / 'train.py')
    command = [sys.executable, tool, 'toy.py', '--cfg-options', 'train_cfg.max_epochs=1000']
    first = tmp_path / 'work_dirs' / 'toy' / 'epoch_2.pth'
    outputs = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE}
    with started(command, cwd=tmp_path, env=environment, **outputs) as process:
        wait_for(first.exists, process=process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    line = err.strip().split('\n')[-1]
    last = Path((tmp_path / 'work_dirs/toy/last_checkpoint').read_text())
    assert line.startswith(f'interrupted: the last whole checkpoint is {last}; resume with: python ')
    assert line.endswith('tools/train.py toy.py --cfg-options train_cfg.max_epochs=1000 --resume')
    assert 'Traceback' not in err
    assert not list(last.parent.glob('.*partial'))

    epoch = read_checkpoint(last)['meta']['epoch']
    options = ['--cfg-options', f'train_cfg.max_epochs={epoch + 1}', 'custom_hooks=[]']
    assert run('train.py', 'toy.py', '--resume', *options) == 0
    log = max(last.parent.glob('*/*.log')).read_text()
    assert f'resumed epoch: {epoch}, iter: {2 * epoch}' in log
    assert (last.parent / f'epoch_{epoch + 1}.pth').exists()


def test_two_cpu_processes_train_from_any_folder(toy_config, tmp_path, environment):
    """nccl becomes gloo and SyncBN becomes BN; both processes take their share of the data."""
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    args = ['../toy.py', 2, '--cfg-options', 'model.norm=SyncBatchNorm', 'train_cfg.max_epochs=1']
    env = {**environment, 'PELK_MM_ALLOW_CPU': '1', 'PORT': str(free_port())}
    done = shell('dist_train.sh', *args, cwd=elsewhere, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    state = read_checkpoint(elsewhere / 'work_dirs' / 'toy' / 'epoch_1.pth')
    assert state['meta']['iter'] == 1  # 8 samples, 2 processes, 4 each
    assert 'backbone.1.running_mean' in state['state_dict']
    # What a process refuses is one line, with its own exit status: torchrun would add a traceback.
    args[1] = 1
    done = shell('dist_train.sh', *args, cwd=elsewhere, env=env)
    assert done.returncode == 2
    line = done.stderr.strip().split('\n')[-1]
    assert line.startswith('error: work directory work_dirs/toy already holds 1 checkpoint(s)')
    assert 'Traceback' not in done.stderr


THREADS_LEFT = """
from pathlib import Path
from pelk_mm.apis.train import train
from pelk_mm.utils.cli import run_tool
status = run_tool(lambda: train('toy.py', launcher='pytorch') and None)
threads = [(thread / 'comm').read_text().strip() for thread in Path('/proc/self/task').iterdir()]
print(status, *(name for name in threads if name.startswith('pt_')))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='finds threads in /proc')
def test_no_thread_of_the_process_group_is_left(toy_config, tmp_path, environment):
    """One that is alive while the interpreter ends may abort it: the run was good, its exit status was not."""
    alone = {'RANK': '0', 'LOCAL_RANK': '0', 'WORLD_SIZE': '1', 'LOCAL_WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1'}
    env = {**environment, **alone, 'MASTER_PORT': str(free_port()), 'PELK_MM_ALLOW_CPU': '1'}
    done = run_process([sys.executable, '-c', THREADS_LEFT], cwd=tmp_path, env=env)
    assert done.stdout.strip().split('\n')[-1] == '0', done.stdout + done.stderr[-3000:]


def test_checks_before_launching(toy_config, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    started = []
    monkeypatch.setattr('torch.distributed.run.run', started.append)
    monkeypatch.setattr('pelk_mm.engine.launch.meet', lambda *_: None)
    assert run('launch.py', '--gpus', 8, 'train.py', 'toy.py') == 2
    assert capsys.readouterr().err == 'error: 8 GPUs asked for, but this machine has 2\n'
    assert run('launch.py', '--gpus', 2, 'train.py', 'none.py') == 2
    assert 'error: config none.py does not exist' in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(('', 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run('launch.py', '--gpus', 2, '--port', port, 'train.py', 'toy.py') == 2
        assert capsys.readouterr().err.startswith(f'error: port {port} cannot be used (Address already in use)')
        assert not started
        # Only machine 0 holds the port.
        options = ['--nnodes', 2, '--node-rank', 1, '--master-addr', '10.0.0.1', '--port', port]
        assert run('launch.py', '--gpus', 2, *options, 'test.py', 'toy.py', 'a.pth', '--deploy') == 0
    args = started[0]
    assert (args.nnodes, args.node_rank, args.nproc_per_node) == ('2', 1, '2')
    assert (args.master_addr, args.master_port) == ('10.0.0.1', port)
    assert args.training_script == str(ROOT / 'tools' / 'test.py')
    assert args.training_script_args == ['toy.py', 'a.pth', '--deploy', '--launcher', 'pytorch']


def test_dist_scripts_pass_everything_on(tmp_path, environment, recorder):
    config = 'configs/demo/upernet_pelk_atto_toy.py'  # found in the checkout from every folder
    env = {**environment, 'PYTHON': str(recorder / 'recording_python')}
    env.update(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234')
    words = [f'{ROOT}/tools/launch.py', '--gpus', '8', '--nnodes', '2', '--node-rank', '1']
    words += ['--master-addr', '10.0.0.1', '--port', '1234']
    done = shell('dist_train.sh', config, 8, '--work-dir', 'a b', cwd=tmp_path, env=env)
    assert done.stdout.strip().split('\n')[1:] == [*words, 'train.py', f'{ROOT}/{config}', '--work-dir', 'a b']
    done = shell('dist_test.sh', config, 'a.pth', 8, '--deploy', cwd=tmp_path, env=env)
    assert done.stdout.strip().split('\n')[1:] == [*words, 'test.py', f'{ROOT}/{config}', 'a.pth', '--deploy']


def test_slurm_scripts(tmp_path, environment, recorder):
    config = 'configs/demo/upernet_pelk_atto_toy.py'
    python = str(recorder / 'recording_python')
    env = {**environment, 'PYTHON': python, 'PATH': f'{recorder}:{environment["PATH"]}'}
    env.update(GPUS='4', SRUN_ARGS='--time 1:00', PY_ARGS='--amp')
    words = ['-p', 'part', '--job-name=name', '--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4', '--cpus-per-task=5']
    words += ['--kill-on-bad-exit=1', '--time', '1:00', python, '-u']
    done = shell('slurm_train.sh', 'part', 'name', config, '--resume', cwd=tmp_path, env=env)
    assert done.stdout.strip().split('\n')[1:] == [
        *words, f'{ROOT}/tools/train.py', f'{ROOT}/{config}', '--resume', '--amp', '--launcher', 'slurm',
    ]  # fmt: skip
    del env['PY_ARGS']
    done = shell('slurm_test.sh', 'part', 'name', config, 'a.pth', cwd=tmp_path, env=env)
    assert done.stdout.strip().split('\n')[1:] == [
        *words, f'{ROOT}/tools/test.py', f'{ROOT}/{config}', 'a.pth', '--launcher', 'slurm',
    ]  # fmt: skip
    done = shell('slurm_train.sh', 'part', 'name', config, cwd=tmp_path, env={**env, 'GPUS': 'all'})
    assert (done.returncode, done.stdout) == (2, '')
    assert 'GPUS and GPUS_PER_NODE must be positive numbers, but got GPUS=all' in done.stderr


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_scripts_without_arguments_say_how_to_use_them(tmp_path, environment, script):
    done = shell(script, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f'error: usage: tools/{script} ')


def test_scripts_without_python_or_slurm(tmp_path, environment):
    env = {**environment, 'PYTHON': '/no/python'}
    done = shell('dist_train.sh', 'a.py', 2, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert 'error: no Python with torch and mmengine (tried /no/python): run bash tools/setup.sh' in done.stderr
    config = 'configs/demo/upernet_pelk_atto_toy.py'
    done = shell('slurm_train.sh', 'p', 'n', config, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert 'srun was not found: Slurm is needed here; without it use tools/dist_train.sh' in done.stderr
