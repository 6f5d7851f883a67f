import multiprocessing
import os
import re
import threading

import pytest
import torch

from pelk_mm.utils.errors import OutputError
from pelk_mm.utils.files import (
    atomic_path,
    claim_file,
    claim_files,
    claim_folder,
    clear_partials,
    save_atomic,
    write_files,
    write_text_atomic,
)


def test_files_are_claimed_and_written(tmp_path):
    paths = claim_files(tmp_path / 'new' / 'a.png', ('.csv',), overwrite=False)
    assert paths == [tmp_path / 'new' / 'a.png', tmp_path / 'new' / 'a.csv']
    assert not (tmp_path / 'new').exists()
    write_files(dict(zip(paths, (b'\x89', 'a,b\n'), strict=True)))
    assert paths[0].read_bytes() == b'\x89'
    assert paths[1].read_text() == 'a,b\n'
    assert sorted(os.listdir(tmp_path / 'new')) == ['a.csv', 'a.png']
    assert claim_files(paths[0], ('.csv',), overwrite=True) == paths


def test_what_is_there_stays(tmp_path):
    (tmp_path / 'a.csv').write_text('kept')
    with pytest.raises(OutputError, match='a.csv exists: pass --overwrite'):
        claim_files(tmp_path / 'a.png', ('.csv',), overwrite=False)
    with pytest.raises(OutputError, match='b.jpg must end in .png'):
        claim_files(tmp_path / 'b.jpg', (), overwrite=True)
    (tmp_path / 'c.png').mkdir()
    with pytest.raises(OutputError, match='c.png is a folder, not a file'):
        claim_files(tmp_path / 'c.png', (), overwrite=True)
    with pytest.raises(OutputError, match='d.png cannot be written: .*a.csv is not a folder'):
        claim_files(tmp_path / 'a.csv' / 'd.png', (), overwrite=True)
    with pytest.raises(OutputError, match='c.png cannot be written: '):
        write_files({tmp_path / 'c.png': b''})
    assert (tmp_path / 'a.csv').read_text() == 'kept'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('a\0b', 'cannot be written: .*null'),
        ('x' * 300, 'cannot be written: File name too long'),
        ('loop', 'leads nowhere|is not a folder'),
        ('loop/a', 'cannot be written: .*levels of symbolic links'),
        ('dangling', 'leads nowhere|is not a folder'),
        ('file/a', 'cannot be written: .*file is not a folder'),
        ('pipe', 'is not a regular file|is not a folder'),
    ],
)
@pytest.mark.parametrize('claim', [claim_file, claim_folder])
def test_places_that_cannot_be(tmp_path, monkeypatch, claim, name, message):
    monkeypatch.chdir(tmp_path)
    os.symlink('loop', 'loop')
    os.symlink('nowhere', 'dangling')
    os.mkfifo('pipe')
    (tmp_path / 'file').write_text('kept')
    before = sorted(os.listdir())
    with pytest.raises(OutputError, match=message):
        claim(name, overwrite=True)
    assert sorted(os.listdir()) == before


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)  # root may write everywhere
    with pytest.raises(OutputError, match='no permission to write to the folder'):
        claim_file(tmp_path / 'new' / 'a', overwrite=True)


def test_inputs_are_never_replaced(tmp_path):
    (tmp_path / 'a.pth').write_text('kept')
    os.symlink('a.pth', tmp_path / 'link.pth')
    for name in ('a.pth', 'link.pth'):
        with pytest.raises(OutputError, match='is an input of this command'):
            claim_file(tmp_path / name, overwrite=True, inputs=['absent.py', tmp_path / 'a.pth'])


def test_a_folder_that_holds_something(tmp_path):
    (tmp_path / 'out').mkdir()
    assert claim_folder(tmp_path / 'out', overwrite=False) == tmp_path / 'out'
    (tmp_path / 'out' / 'a.png').touch()
    with pytest.raises(OutputError, match='out is not empty: pass --overwrite'):
        claim_folder(tmp_path / 'out', overwrite=False)
    claim_folder(tmp_path / 'out', overwrite=True)
    assert claim_folder(tmp_path / 'new' / 'deep', overwrite=False) == tmp_path / 'new' / 'deep'
    assert not (tmp_path / 'new').exists()


def save_often(path, value, times):
    for _ in range(times):
        save_atomic(path, {'value': torch.full((20_000,), float(value))})


def read_often(path, until):
    """Read the file again and again; every time it must be one of the files that were written."""
    reads = 0
    while until():
        if path.exists():
            value = torch.load(path)['value']
            assert value.min() == value.max()
            reads += 1
    assert reads


@pytest.mark.processes
@pytest.mark.parametrize('kind', ['threads', 'processes'])
def test_two_writers_of_one_file(tmp_path, kind):
    path, fork = tmp_path / 'a.pth', multiprocessing.get_context('fork')
    make = threading.Thread if kind == 'threads' else fork.Process
    writers = [make(target=save_often, args=(path, value, 120)) for value in (1, 2)]
    for writer in writers:
        writer.start()
    read_often(path, lambda: any(writer.is_alive() for writer in writers))
    for writer in writers:
        writer.join()
    if kind == 'processes':
        assert [writer.exitcode for writer in writers] == [0, 0]
    assert os.listdir(tmp_path) == ['a.pth']


def test_names_of_any_length_are_written(tmp_path):
    for name in ('n' * 255, 'ä' * 127):
        write_text_atomic(tmp_path / name, 'text')
        assert (tmp_path / name).read_text() == 'text'


def test_what_dead_writers_left_is_cleared(tmp_path):
    def die():
        with atomic_path(tmp_path / 'a.pth') as partial:
            partial.write_text('half')
            os._exit(0)

    child = multiprocessing.get_context('fork').Process(target=die)
    child.start()
    child.join()
    with atomic_path(tmp_path / 'b.pth') as living:
        living.write_text('half')
        (left,) = set(tmp_path.iterdir()) - {living}
        (tmp_path / '.mine.partial').write_text('of someone else')
        other = left.with_name(left.name.replace('a.pth', 'c.pth').replace('.partial', ''))
        other.write_text('of someone else')
        link = left.with_name(left.name.replace('a.pth', 'd.pth'))
        link.symlink_to(other)
        folder = left.with_name(left.name.replace('a.pth', 'e.pth'))
        folder.mkdir()
        elsewhere = left.with_name(re.sub('[0-9a-f]{8}-', '00000000-', left.name, count=1))
        elsewhere.write_text('of a machine that has died')
        clear_partials(tmp_path)
        assert set(tmp_path.iterdir()) == {living, tmp_path / '.mine.partial', other, link, folder}
    clear_partials(tmp_path / 'absent')
