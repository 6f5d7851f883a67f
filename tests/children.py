"""Processes that tests start: Ctrl-C reaches them however the suite was started, and none outlives its test."""

import os
import signal
import subprocess
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

#: Seconds; far more than anything here takes on a busy machine, so that only what hangs is cut off.
LIMIT = 1200
#: Seconds for what a process has started to end after it.
GRACE = 60
_MARK = 'PELK_MM_STARTED_BY_TEST'


@contextmanager
def default_interrupt():
    """Let processes started within have the default SIGINT and SIGHUP.

    A shell's background jobs ignore the first, and what ``nohup`` has started the second; and they hand that on.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    ignored = [number for number in handlers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, handlers[number])  # only an ignored signal outlasts the start
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def started(command, env=None, **options):
    """A process, as ``subprocess.Popen`` makes it, in a session of its own.

    When the block ends, in whatever way, it is killed with all it has started. One that has ended by itself must have
    left no other behind.
    """
    mark = f'{_MARK}={uuid.uuid4().hex}'
    env = dict(os.environ if env is None else env, **dict([mark.split('=')]))
    with default_interrupt():
        process = subprocess.Popen(
            list(map(str, command)), env=env, encoding='utf-8', start_new_session=True, **options
        )
    with process:
        try:
            yield process
            if process.poll() is not None:
                wait_for(lambda: not _marked(mark), GRACE, f'{command} has ended, but not all that it has started')
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            while pids := _marked(mark):
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)


def run(command, **options):
    """Run to the end, as ``subprocess.run`` does with ``capture_output``."""
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        out, err = process.communicate(timeout=LIMIT)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def wait_for(condition, seconds=LIMIT, message='waited in vain', process=None):
    """Wait until ``condition()`` is true; fail at once where ``process`` has ended before."""
    end = time.monotonic() + seconds
    while not condition():
        ended = process is not None and process.poll() is not None
        assert not ended or condition(), f'the process ended with {process.returncode}: {message}'
        assert time.monotonic() < end, message
        time.sleep(0.02)


def _marked(mark):
    """Processes with ``mark`` in their environment, whatever their group and parent are by now. Linux only."""
    pids = []
    for file in Path('/proc').glob('[0-9]*/environ'):
        with suppress(OSError):
            if mark.encode() in file.read_bytes():
                pids.append(int(file.parent.name))
    return pids
