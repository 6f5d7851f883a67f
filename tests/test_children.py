import signal
import subprocess
import sys

import pytest
from children import run, started, wait_for

from pelk_mm.analysis.resume.kill_and_compare import is_alive

# Starts a process in a session of its own and says its number; ends at once, or when the input does.
PARENT = """
import subprocess, sys
other = [sys.executable, '-c', 'import time; time.sleep(600)']
null = subprocess.DEVNULL
print(subprocess.Popen(other, start_new_session=True, stdout=null, stderr=null).pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ignored_interrupt():
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, kept)


def test_children_have_the_default_interrupt(ignored_interrupt):
    done = run([sys.executable, '-c', 'import signal; print(signal.getsignal(signal.SIGINT).__name__)'])
    assert done.stdout == 'default_int_handler\n', done.stderr
    done = run(['bash', '-c', 'kill -INT $$; echo survived'])
    assert (done.returncode, done.stdout) == (-signal.SIGINT, '')


class FailedError(Exception):
    pass


def fail_beside_a_grandchild(pids, parent_ends):
    stdin = subprocess.DEVNULL if parent_ends else subprocess.PIPE
    with started([sys.executable, '-c', PARENT], stdin=stdin, stdout=subprocess.PIPE) as process:
        pids.append(int(process.stdout.readline()))
        if parent_ends:
            process.wait()
        assert is_alive(pids[0])
        raise FailedError


@pytest.mark.skipif(sys.platform != 'linux', reason='finds processes in /proc')
@pytest.mark.parametrize('parent_ends', [False, True])
def test_nothing_outlives_a_failing_test(parent_ends):
    pids = []
    with pytest.raises(FailedError):
        fail_beside_a_grandchild(pids, parent_ends)
    assert not is_alive(pids[0])


@pytest.mark.skipif(sys.platform != 'linux', reason='finds processes in /proc')
def test_a_process_left_behind_fails_the_test(monkeypatch):
    monkeypatch.setattr('children.GRACE', 0.5)
    with pytest.raises(AssertionError, match='has ended, but not all that it has started'):
        run([sys.executable, '-c', PARENT], stdin=subprocess.DEVNULL)


def test_waiting_ends_with_the_process():
    with (
        started([sys.executable, '-c', 'import sys; sys.exit(3)']) as process,
        pytest.raises(AssertionError, match='ended with 3: no such line'),
    ):
        wait_for(lambda: False, message='no such line', process=process)
