"""Waiting for others: everyone comes, one does not, the place stays closed, a number is given twice."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from forked import free_port

from pelk_mm.engine import meeting
from pelk_mm.engine.meeting import meet
from pelk_mm.utils.errors import LaunchError


@pytest.fixture
def attend(monkeypatch):
    """``attend(numbers, count)``: let these numbers meet; returns a future of each and what was told."""
    monkeypatch.setattr(meeting, 'TELL_EVERY', 0.2)
    with ThreadPoolExecutor() as pool:

        def start(numbers, count, seconds=60.0):
            port, told = free_port(), []

            def tell(line, missing):
                told.append((line, list(missing)))

            at_most = timedelta(seconds=seconds)
            arguments = [
                ('machine', number, count, '127.0.0.1', port, number == 0, tell, at_most) for number in numbers
            ]
            return [pool.submit(meet, *each) for each in arguments], told, f'127.0.0.1:{port}'

        yield start


def test_all_come(attend):
    futures, _, _ = attend([2, 1, 0], 3)
    assert all(future.result() is not None for future in futures)


def test_one_does_not_come(attend):
    futures, told, place = attend([0, 1], 4, seconds=1.5)
    for future in futures:
        with pytest.raises(LaunchError, match=f'machine 2, 3 did not come to {place} until [0-9:]+$'):
            future.result()
    assert any(line.startswith(f'waiting at {place} for machine 2, 3, until ') for line, _ in told)
    assert told[-1][1] == [2, 3]


def test_the_place_stays_closed(attend):
    (future,), told, place = attend([1], 2, seconds=1.0)
    with pytest.raises(LaunchError, match=f'machine 0 did not come to {place}'):
        future.result()
    assert told[0][1] == [0]


def test_a_number_given_twice(attend):
    futures, _, _ = attend([0, 1, 1], 3, seconds=2.0)
    errors = [str(future.exception()) for future in futures]
    assert 'two of the 3 are machine 1: each must have a number of its own' in errors
