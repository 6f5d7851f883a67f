import errno
import re

import numpy as np
import pytest
import torch

from pelk_mm.utils.resources import explain_resources


def raised(call):
    try:
        call()
    except BaseException as error:  # whatever it is, it is what is explained
        return error
    raise AssertionError('nothing was raised')


def caused_by(error):
    def call():
        try:
            raise error
        except BaseException as cause:
            raise ValueError('a worker failed') from cause

    return raised(call)


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (OSError(errno.EMFILE, 'Too many open files'), 'ulimit -n'),
        (RuntimeError('received 0 items of ancdata'), 'ulimit -n'),
        (caused_by(OSError(errno.EMFILE, 'Too many open files', 'a.jpg')), 'ulimit -n'),
        (RuntimeError('unable to mmap 64 bytes from file </torch_1_2_3>: Cannot allocate memory (12)'), '/dev/shm'),
        (RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error. '), '/dev/shm'),
        (RuntimeError('DataLoader worker (pid(s) 7) exited unexpectedly'), 'a data worker was killed'),
        (RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. '), 'a data worker was killed'),
        (RuntimeError('CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has'), 'the memory of the GPU'),
        (raised(lambda: torch.empty(10**14)), r'the memory does not suffice.*\(it asked for 3\.73e\+05 GiB at once\)'),
        (raised(lambda: np.empty(10**14)), r'the memory does not suffice.*\(it asked for 728. TiB at once\)'),
        (raised(lambda: torch.zeros(2**62)), 'the memory does not suffice'),
        (raised(lambda: bytearray(2**60)), 'the memory does not suffice'),
    ],
)
def test_what_ran_out_and_what_to_do(error, words):
    assert re.search(words, explain_resources(error))


@pytest.mark.parametrize('error', [ValueError('a'), OSError(errno.ENOENT, 'No such file', 'a'), KeyError('memory')])
def test_other_errors_are_left_alone(error):
    assert explain_resources(error) is None
