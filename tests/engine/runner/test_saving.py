"""Checkpoints stay whole: a full disk, an interruption, rotation and replacement."""

import errno
import os
import re
import resource
import signal
from pathlib import Path

import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pelk_mm.apis.train import train
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.engine.run_lock import LOCK_NAME
from pelk_mm.engine.runner.checkpoint_hook import SafeCheckpointHook
from pelk_mm.utils.errors import InterruptedTrainingError, SaveError
from pelk_mm.utils.files import atomic_path, save_atomic
from pelk_mm.utils.interrupts import stopping_in_order

ROTATING = {
    'default_hooks.checkpoint.max_keep_ckpts': 1,
    'default_hooks.checkpoint.save_best': 'acc',
    'train_cfg.max_epochs': 3,
}


def checkpoints(folder='work_dirs/toy'):
    kept = (path for path in Path(folder).iterdir() if path.is_file() and path.suffix != '.py')
    return sorted(path.name for path in kept if path.name != LOCK_NAME)


@HOOKS.register_module(force=True)
class FileSizeLimitHook(Hook):
    """From the second epoch on no file may grow beyond 64 kB: what a full disk or a quota does."""

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))


@HOOKS.register_module(force=True)
class InterruptHook(Hook):
    """Ctrl-C in the given iteration."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.at:
            raise KeyboardInterrupt


@pytest.fixture
def _keep_limits():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_atomic_path(tmp_path):
    target = tmp_path / 'new' / 'a.txt'
    with atomic_path(target) as partial:
        partial.write_text('one')
        assert not target.exists()
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as partial:  # noqa: PT012
        partial.write_text('tw')
        raise KeyboardInterrupt
    assert target.read_text() == 'one'
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.usefixtures('_keep_limits')
def test_save_atomic(tmp_path):
    target = tmp_path / 'new' / 'a.pth'
    save_atomic(target, {'w': torch.ones(2)})
    assert torch.equal(torch.load(target)['w'], torch.ones(2))
    with pytest.raises(SaveError, match='a.pth/b.pth cannot be written: .*File exists'):
        save_atomic(target / 'b.pth', {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with pytest.raises(SaveError, match='a.pth cannot be written: .*File too large'):
        save_atomic(target, {'w': torch.ones(100_000)})
    assert torch.equal(torch.load(target)['w'], torch.ones(2))
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.usefixtures('_keep_limits')
def test_file_size_limit_leaves_the_previous_checkpoint_whole(toy_config):
    options = {**ROTATING, 'model.width': 5000, 'custom_hooks': [{'type': 'FileSizeLimitHook'}]}
    with pytest.raises(SaveError) as caught:
        train(toy_config, cfg_options=options)
    message = str(caught.value)
    assert 'cannot write checkpoint' in message
    assert 'epoch_2.pth: File too large' in message
    assert message.endswith(f'{Path("work_dirs/toy/epoch_1.pth").resolve()}; go on from it with --resume')
    assert checkpoints() == ['best_acc_epoch_1.pth', 'epoch_1.pth', 'last_checkpoint']
    assert read_checkpoint('work_dirs/toy/epoch_1.pth')['meta']['epoch'] == 1


def test_disk_full_half_way_through_the_best_checkpoint(toy_config, monkeypatch):
    put = LocalBackend.put

    def full(self, data, path):
        if 'best_acc_epoch_2' in str(path):
            put(self, data[: len(data) // 2], path)
            raise OSError(errno.ENOSPC, 'No space left on device', str(path))
        put(self, data, path)

    monkeypatch.setattr(LocalBackend, 'put', full)
    with pytest.raises(SaveError, match=r'best_acc_epoch_2.pth: No space left on device \(\d+ MB free there\)'):
        train(toy_config, cfg_options=ROTATING)
    # mmengine would have removed the best checkpoint of epoch 1 by now.
    assert checkpoints() == ['best_acc_epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']
    assert Path('work_dirs/toy/last_checkpoint').read_text().endswith('epoch_2.pth')


def test_rotation_keeps_what_mmengine_keeps(toy_config):
    runner = train(toy_config, cfg_options=ROTATING)
    assert any(type(hook) is SafeCheckpointHook for hook in runner.hooks)
    assert checkpoints() == ['best_acc_epoch_3.pth', 'epoch_3.pth', 'last_checkpoint']
    state = read_checkpoint('work_dirs/toy/epoch_3.pth')['message_hub']['runtime_info']
    assert state['keep_ckpt_ids'] == [3]
    assert state['best_ckpt'].endswith('best_acc_epoch_3.pth')


def test_the_old_checkpoint_is_there_while_the_new_one_is_written(toy_config, monkeypatch):
    put, seen = LocalBackend.put, []

    def look(self, data, path):
        seen.append((re.sub(r'\.[0-9a-f]{8}-\d+-[0-9a-f]{16}\.', '.', Path(path).name), checkpoints()))
        put(self, data, path)

    monkeypatch.setattr(LocalBackend, 'put', look)
    train(toy_config, cfg_options=ROTATING)
    assert ('.epoch_3.pth.partial', ['best_acc_epoch_2.pth', 'epoch_2.pth', 'last_checkpoint']) in seen
    assert ('.best_acc_epoch_3.pth.partial', ['best_acc_epoch_2.pth', 'epoch_3.pth', 'last_checkpoint']) in seen


def test_interruption_names_the_checkpoint_and_resume_goes_on(toy_config):
    options = {'train_cfg.max_epochs': 3}
    interrupt = {**options, 'custom_hooks': [{'type': 'InterruptHook', 'at': 3}]}
    with pytest.raises(InterruptedTrainingError) as caught:
        train(toy_config, cfg_options=interrupt, resume_command='train again')
    assert caught.value.exit_status == 130
    path = Path('work_dirs/toy/epoch_1.pth').resolve()
    assert str(caught.value) == f'the last whole checkpoint is {path}; resume with: train again'

    starts = []

    class Watch(Hook):
        def before_train_epoch(self, runner):
            starts.append((runner.epoch, runner.iter))

    HOOKS.register_module(name='Watch', module=Watch, force=True)
    train(toy_config, resume='auto', cfg_options={**options, 'custom_hooks': [{'type': 'Watch'}]})
    assert starts == [(1, 2), (2, 4)]
    assert checkpoints() == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', 'last_checkpoint']


def test_interruption_before_the_first_checkpoint(toy_config):
    with pytest.raises(InterruptedTrainingError, match='no checkpoint had been saved in .*toy'):
        train(toy_config, cfg_options={'custom_hooks': [{'type': 'InterruptHook', 'at': 0}]})


def test_overwrite_removes_nothing_before_there_is_a_new_checkpoint(toy_config):
    train(toy_config, cfg_options={'train_cfg.max_epochs': 3})
    before = Path('work_dirs/toy/epoch_3.pth').read_bytes()
    with pytest.raises(InterruptedTrainingError, match='those of the earlier run are whole, the last is .*epoch_3.pth'):
        train(toy_config, overwrite=True, cfg_options={'custom_hooks': [{'type': 'InterruptHook', 'at': 1}]})
    assert Path('work_dirs/toy/epoch_3.pth').read_bytes() == before
    train(toy_config, overwrite=True)
    assert checkpoints() == ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']


def test_a_signal_while_saving_waits_for_the_whole_checkpoint(toy_config, monkeypatch):
    """PyTorch's writer, broken off by an exception, aborts the process when it is taken down."""
    save = torch.save

    def interrupted(content, file, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        save(content, file, *args, **kwargs)

    monkeypatch.setattr(torch, 'save', interrupted)
    with (
        stopping_in_order(),
        pytest.raises(InterruptedTrainingError, match='last whole checkpoint is .*epoch_1.pth'),
    ):
        train(toy_config)
    assert read_checkpoint('work_dirs/toy/epoch_1.pth')['meta']['epoch'] == 1
