"""Variables, launchers, locks and hooks that cannot be used; and variables of other launchers, which say nothing."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from tool_runner import run

from pelk_mm.engine.run_lock import run_lock

# What torchrun sets for the first of two processes.
PYTORCH = {
    'RANK': '0',
    'LOCAL_RANK': '0',
    'WORLD_SIZE': '2',
    'LOCAL_WORLD_SIZE': '2',
    'MASTER_ADDR': '127.0.0.1',
    'MASTER_PORT': '29511',
    'PELK_MM_ALLOW_CPU': '1',
}


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        *((name, None) for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')),
        *((name, 'abc') for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'MASTER_PORT')),
        *((name, '-1') for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'MASTER_PORT')),
        ('RANK', '2'),
        ('LOCAL_RANK', '2'),
        ('WORLD_SIZE', '0'),
        ('MASTER_PORT', '70000'),
        ('RANK', ''),
        ('WORLD_SIZE', '2.0'),
    ],
)
@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_what_a_launcher_did_not_set(toy_config, refuse, monkeypatch, tool, name, value):
    for variable, right in PYTORCH.items():
        monkeypatch.setenv(variable, right)
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    torch.save({'state_dict': {}}, 'a.pth')
    more = ['a.pth'] if tool == 'test.py' else []
    refuse('RANK|WORLD_SIZE|MASTER|PORT|number of GPUs', tool, 'toy.py', *more, '--launcher', 'pytorch')


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_a_launcher_that_did_not_start_it(toy_config, refuse, launcher):
    refuse(f'--launcher {launcher} needs the environment variable', 'train.py', 'toy.py', '--launcher', launcher)


@pytest.mark.parametrize(
    'variables',
    [
        {'RANK': '1', 'WORLD_SIZE': '2', 'LOCAL_RANK': '1'},
        {'SLURM_PROCID': '1', 'SLURM_LOCALID': '1', 'SLURM_NTASKS': '4'},
        {'OMPI_COMM_WORLD_RANK': '1', 'OMPI_COMM_WORLD_LOCAL_RANK': '1'},
        {'LOCAL_RANK': 'abc'},
    ],
    ids=['torchrun', 'slurm', 'mpi', 'no number'],
)
def test_variables_of_a_launcher_left_behind(toy_config, refuse, monkeypatch, capsys, variables):
    """A run by itself checks and writes as the first process, whatever they say."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run('train.py', 'toy.py', '--work-dir', 'run') == 0
    assert Path('run/epoch_2.pth').is_file()
    refuse('already holds 2 checkpoint', 'train.py', 'toy.py', '--work-dir', 'run')


@pytest.mark.parametrize('flags', [[], ['--overwrite'], ['--resume']])
def test_a_run_that_is_under_way(toy_config, refuse, flags):
    with run_lock('run', lambda note: None):
        refuse('run.*process', 'train.py', 'toy.py', '--work-dir', 'run', *flags)


@pytest.mark.parametrize('kind', ['file', 'below a file', 'loop of links', 'dangling link', 'long', 'device'])
def test_a_work_directory_that_cannot_be(toy_config, refuse, kind):
    name = {'long': 'x' * 300, 'below a file': 'toy.py/run', 'device': '/dev/null'}.get(kind, 'run')
    if kind == 'file':
        Path('run').write_text('text')
    elif kind == 'loop of links':
        os.symlink('run', 'run')
    elif kind == 'dangling link':
        os.symlink('nowhere/run', 'run')
    refuse('run|x{30}|/dev/null', 'train.py', 'toy.py', '--work-dir', name)


@pytest.mark.parametrize('name', ['epoch_1.pth', 'best_acc_epoch_1.pth', 'iter_5.pth'])
def test_an_earlier_run_in_the_folder(toy_config, refuse, name):
    Path('run').mkdir()
    Path('run', name).write_bytes(b'weights')
    refuse('--resume.*--overwrite', 'train.py', 'toy.py', '--work-dir', 'run')


@pytest.mark.parametrize('flag', ['load_from', 'init_cfg', 'resume', 'link', 'folder', 'other name'])
def test_overwriting_leaves_what_is_not_of_the_earlier_run(toy_config, capsys, flag):
    """The file that a run starts from, what a link leads to, folders, and files of other names."""
    assert run('train.py', 'toy.py', '--work-dir', 'run') == 0
    kept, more = Path('run/epoch_1.pth'), []
    if flag == 'link':
        kept = Path('elsewhere.pth')
        shutil.copy('run/epoch_1.pth', kept)
        Path('run/epoch_1.pth').unlink()
        Path('run/epoch_1.pth').symlink_to(kept.absolute())
    elif flag == 'folder':
        kept = Path('run/epoch_9.pth/deep/file')
        kept.parent.mkdir(parents=True)
        kept.write_bytes(b'text')
    elif flag == 'other name':
        kept = Path('run/mine.pth')
        kept.write_bytes(b'weights')
    elif flag == 'resume':
        more = ['--resume', str(kept)]
    elif flag == 'init_cfg':
        more = ['--cfg-options', 'model.init_cfg.type=Pretrained', f'model.init_cfg.checkpoint={kept}']
    else:
        more = ['--cfg-options', f'load_from={kept}']
    content = kept.read_bytes()
    more += ['train_cfg.max_epochs=3'] if '--cfg-options' in more else ['--cfg-options', 'train_cfg.max_epochs=3']
    run('train.py', 'toy.py', '--work-dir', 'run', '--overwrite', *more)
    capsys.readouterr()
    assert kept.read_bytes() == content


SPARSE = "custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', include=['head'], {})]\n"


@pytest.mark.parametrize(
    ('argument', 'value'),
    [
        *(('sparsity', value) for value in ('1.0', '-0.1', '"much"', 'None', 'float("nan")')),
        *(('prune_rate', value) for value in ('1.5', '-0.5', '[]', 'float("inf")')),
        *(('final_prune_rate', value) for value in ('2', '"a"')),
        *(('update_interval', value) for value in ('0', '2.5', '-3', '"often"')),
        *(('sync_interval', value) for value in ('0', '1.5')),
        *(('log_interval', value) for value in ('0', '"a"')),
        *(('dense_above', value) for value in ('0', '1.5', '"a"')),
        *(('seed', value) for value in ('-1', '1.5', '"a"')),
        ('mode', '"static"'),
        ('granularity', '"row"'),
        ('colour', '"red"'),
    ],
)  # fmt: skip
def test_a_sparsity_hook(toy_config, refuse, argument, value):
    with open('toy.py', 'a') as file:
        file.write("custom_imports['imports'].append('pelk_mm')\n" + SPARSE.format(f'{argument}={value}'))
    refuse(argument, 'train.py', 'toy.py')


@pytest.mark.parametrize('patterns', ["['neck']", "['[']", '[]', "'head'", '3', '[3]'])
def test_patterns_of_a_sparsity_hook(toy_config, refuse, patterns):
    with open('toy.py', 'a') as file:
        text = SPARSE.format('').replace("['head']", patterns)
        file.write("custom_imports['imports'].append('pelk_mm')\n" + text)
    refuse('include', 'train.py', 'toy.py')
