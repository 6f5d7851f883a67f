"""A checkpoint deletes nothing: what it names is removed only where its own run wrote it."""

import itertools
import os
import shutil
from pathlib import Path

import pytest
import torch
from forked import forget_earlier_runs
from toy_task import ToyMetric

from pelk_mm.apis import train as training

KEEP_ONE = {
    'default_hooks.checkpoint.max_keep_ckpts': 1,
    'default_hooks.checkpoint.save_best': 'acc',
    'train_cfg.max_epochs': 2,
}
LONGER = {**KEEP_ONE, 'train_cfg.max_epochs': 3}


@pytest.fixture(autouse=True)
def _always_better(monkeypatch):
    """Every validation makes a new best checkpoint, also after resuming."""
    scores = itertools.count(1)
    monkeypatch.setattr(ToyMetric, 'compute_metrics', lambda *_: {'acc': float(next(scores))})


def train(config, **arguments):
    forget_earlier_runs()
    return training.train(config, **arguments)


def names(folder):
    return sorted(file.name for file in Path(folder).glob('*.pth'))


@pytest.fixture
def old(toy_config):
    """A finished run, which kept its last and its best checkpoint."""
    train(toy_config, work_dir='old', cfg_options=KEEP_ONE)
    assert names('old') == ['best_acc_epoch_2.pth', 'epoch_2.pth']
    return Path('old')


def change(file, **info):
    checkpoint = torch.load(file, weights_only=False)
    checkpoint['message_hub']['runtime_info'].update(info)
    torch.save(checkpoint, file)


def test_the_same_run_goes_on_removing_what_it_wrote(toy_config, old):
    train(toy_config, work_dir='old', resume='auto', cfg_options=LONGER)
    assert names('old') == ['best_acc_epoch_3.pth', 'epoch_3.pth']


def test_a_moved_folder_is_still_the_same_run(toy_config, old):
    old.rename('moved')
    train(toy_config, work_dir='moved', resume='auto', cfg_options=LONGER)
    assert names('moved') == ['best_acc_epoch_3.pth', 'epoch_3.pth']


def test_another_folder_is_another_run(toy_config, old):
    train(toy_config, work_dir='new', resume='old/epoch_2.pth', cfg_options=LONGER)
    assert names('old') == ['best_acc_epoch_2.pth', 'epoch_2.pth']
    assert names('new') == ['best_acc_epoch_3.pth', 'epoch_3.pth']


def test_fewer_are_kept_than_before(toy_config):
    three = {**LONGER, 'default_hooks.checkpoint.max_keep_ckpts': 3}
    train(toy_config, work_dir='old', cfg_options=three)
    options = {**LONGER, 'train_cfg.max_epochs': 4, 'default_hooks.checkpoint.max_keep_ckpts': 2}
    train(toy_config, work_dir='old', resume='auto', cfg_options=options)
    assert names('old') == ['best_acc_epoch_4.pth', 'epoch_3.pth', 'epoch_4.pth']


@pytest.mark.parametrize('kind', ['file', 'folder', 'link', 'relative', 'checkpoint'])
def test_paths_in_a_checkpoint_lead_nowhere(toy_config, old, kind):
    """The best checkpoint is said to be something else, which must stay."""
    precious = Path('precious').resolve()
    precious.mkdir()
    (precious / 'thesis.tex').write_text('all of it')
    (old / 'best_acc_of_another_run.pth').write_text('kept')
    (old / 'best_link.pth').symlink_to(precious / 'thesis.tex')
    path = {
        'file': precious / 'thesis.tex',
        'folder': precious,
        'link': (old / 'best_link.pth').resolve().parent.parent / 'old' / 'best_link.pth',
        'relative': Path('old/../precious/thesis.tex'),
        'checkpoint': (old / 'best_acc_of_another_run.pth').resolve(),
    }[kind]
    change(old / 'epoch_2.pth', best_ckpt=str(path))
    train(toy_config, work_dir='old', resume='old/epoch_2.pth', cfg_options=LONGER)
    assert (precious / 'thesis.tex').read_text() == 'all of it'
    assert (old / 'best_acc_of_another_run.pth').exists()
    assert (old / 'best_link.pth').is_symlink()
    assert 'best_acc_epoch_3.pth' in names('old')


def test_numbers_in_a_checkpoint_remove_no_other_runs_files(toy_config, old):
    for name in ('epoch_7.pth', 'epoch_8.pth', 'epoch_9.pth'):
        (old / name).write_text('of another run')
    change(old / 'epoch_2.pth', keep_ckpt_ids=[7, 8, 9, 2])
    train(toy_config, work_dir='old', resume='old/epoch_2.pth', cfg_options=LONGER)
    others = ['epoch_7.pth', 'epoch_8.pth', 'epoch_9.pth']
    assert names('old') == ['best_acc_epoch_3.pth', 'epoch_3.pth', *others]


def test_a_file_that_has_taken_the_place_is_kept(toy_config, old):
    """A copy with the same name, but another size or time, is somebody's."""
    shutil.copyfile(old / 'best_acc_epoch_2.pth', 'copy.pth')
    os.replace('copy.pth', old / 'best_acc_epoch_2.pth')
    train(toy_config, work_dir='old', resume='auto', cfg_options=LONGER)
    assert names('old') == ['best_acc_epoch_2.pth', 'best_acc_epoch_3.pth', 'epoch_3.pth']


def test_last_checkpoint_leads_to_no_other_folder(toy_config, old):
    (old / 'last_checkpoint').write_text(str(Path('elsewhere/epoch_1.pth').resolve()))
    Path('elsewhere').mkdir()
    shutil.copy(old / 'epoch_2.pth', 'elsewhere/epoch_1.pth')
    runner = train(toy_config, work_dir='old', resume='auto', cfg_options=KEEP_ONE)
    assert runner._load_from == 'old/epoch_2.pth'
