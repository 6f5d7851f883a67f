"""Signals: raised once, remembered where a library swallows them, left alone where they are ignored."""

import os
import signal

import pytest

from pelk_mm.utils.interrupts import (
    StopSignalError,
    has_ended,
    raise_if_stopped,
    stop_deferred,
    stopped_by,
    stopping_in_order,
)


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ('name', 'status', 'word'),
    [('SIGINT', 130, 'interrupted'), ('SIGTERM', 143, 'terminated'), ('SIGHUP', 129, 'hung up')],
)
def test_a_signal_is_raised_with_its_status(name, status, word):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(StopSignalError) as caught, stopping_in_order():
        os.kill(os.getpid(), number)
    assert (caught.value.exit_status, caught.value.word) == (status, word)
    assert signal.getsignal(number) is before


def test_what_is_swallowed_comes_back():
    with stopping_in_order():
        raise_if_stopped()
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except:  # noqa: E722 - as mmengine does
            swallowed = True
        assert swallowed
        os.kill(os.getpid(), signal.SIGINT)  # while cleaning up
        assert stopped_by().number == signal.SIGINT
        with pytest.raises(StopSignalError):
            raise_if_stopped()
    with stopping_in_order():
        assert stopped_by() is None


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stopping_in_order():
        os.kill(os.getpid(), signal.SIGHUP)
        assert stopped_by() is None


def test_forked_processes_leave_ctrl_c_to_their_parent():
    with stopping_in_order():
        child = os.fork()
        if child == 0:
            handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
            os._exit(0 if handlers == (signal.SIG_IGN, signal.SIG_DFL) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def kill_within(finished):
    with stop_deferred():
        with stop_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            finished.append('inner')
        finished.append('outer')


def fail_within():
    with stop_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError('its own')


def test_what_must_not_be_broken_off_is_finished():
    finished = []
    with stopping_in_order(), pytest.raises(StopSignalError):
        kill_within(finished)
    assert finished == ['inner', 'outer']
    assert has_ended()
    with stop_deferred():  # outside, what has come before is over
        assert stopped_by() is None
    raise_if_stopped()
    with stopping_in_order():
        with pytest.raises(ValueError, match='its own'):
            fail_within()
        with pytest.raises(StopSignalError):
            raise_if_stopped()
