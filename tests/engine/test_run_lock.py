"""One training a folder: the second is refused, a kill frees the folder, data workers do not hold it."""

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from children import LIMIT, wait_for

from pelk_mm.engine.run_lock import LOCK_NAME, run_lock
from pelk_mm.utils.errors import OutputError

pytestmark = pytest.mark.processes


def refuse_warnings(line):
    raise AssertionError(line)


def hold(folder, held, workers):
    """Hold the folder until killed, with a forked process that outlives it."""
    with run_lock(folder, refuse_warnings):
        if workers and os.fork() == 0:
            Path(folder, 'worker').write_text(str(os.getpid()))
            time.sleep(LIMIT)
        held.set()
        time.sleep(LIMIT)


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds ``tmp_path / 'run'``, with or without a worker."""
    processes = []

    def start(workers=False):
        context = multiprocessing.get_context('spawn')
        held = context.Event()
        process = context.Process(target=hold, args=(tmp_path / 'run', held, workers))
        process.start()
        processes.append(process)
        assert held.wait(LIMIT)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


def test_the_second_is_told_who_holds_the_folder(tmp_path, holder):
    process = holder()
    with pytest.raises(OutputError) as caught, run_lock(tmp_path / 'run', refuse_warnings):
        pytest.fail('two hold one folder')
    assert f'another training is running in {tmp_path / "run"} (process {process.pid} of ' in str(caught.value)
    assert str(caught.value).endswith('): wait for it, stop it, or pass another --work-dir')
    with run_lock(tmp_path / 'other', refuse_warnings):
        pass


def test_a_kill_frees_the_folder_though_a_worker_lives(tmp_path, holder):
    process = holder(workers=True)
    wait_for((tmp_path / 'run' / 'worker').exists)
    process.kill()
    process.join()
    try:
        with run_lock(tmp_path / 'run', refuse_warnings):
            pass
    finally:
        os.kill(int((tmp_path / 'run' / 'worker').read_text()), signal.SIGKILL)


def test_a_folder_made_for_nothing_is_removed_again(tmp_path):
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path / 'a' / 'run', refuse_warnings):
        raise ZeroDivisionError
    assert not (tmp_path / 'a' / 'run').exists()
    with run_lock(tmp_path / 'run', refuse_warnings):
        (tmp_path / 'run' / 'epoch_1.pth').touch()
    assert sorted(file.name for file in (tmp_path / 'run').iterdir()) == [LOCK_NAME, 'epoch_1.pth']
    with run_lock(tmp_path / 'run', refuse_warnings):  # a file that is left is not a lock that is held
        pass
    with pytest.raises(OutputError, match='epoch_1.pth is a file'), run_lock(tmp_path / 'run/epoch_1.pth', print):
        pytest.fail('held')


@pytest.mark.parametrize('number', [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr('fcntl.flock', flock)
    warnings, ran = [], False
    with run_lock(tmp_path / 'run', warnings.append):
        ran = True
    assert ran
    (line,) = warnings
    assert line.startswith(f'no lock on {tmp_path / "run"}, which cannot hold one ({os.strerror(number)})')


@pytest.mark.parametrize(
    ('folder', 'message'), [('file/run', 'Not a directory'), ('a\0b', 'null'), ('a' * 300, 'File name too long')]
)
def test_a_folder_that_cannot_be(tmp_path, folder, message):
    (tmp_path / 'file').touch()
    with pytest.raises(OutputError, match=f'cannot be made: .*{message}'), run_lock(tmp_path / folder, refuse_warnings):
        pytest.fail('held')
