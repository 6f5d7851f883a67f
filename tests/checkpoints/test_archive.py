import io
import random
import zipfile

import corpus
import pytest
import torch

from pelk_mm.checkpoints.archive import read_records
from pelk_mm.checkpoints.reading import read_checkpoint, unpickle
from pelk_mm.utils.errors import CheckpointError

SMALL = {'state_dict': {'w': torch.arange(6.0).reshape(2, 3), 'b': torch.zeros(0)}, 'meta': {'epoch': 3}}


def same(read: dict) -> bool:
    return (
        list(read) == list(SMALL)
        and list(read['state_dict']) == list(SMALL['state_dict'])
        and all(torch.equal(read['state_dict'][name], value) for name, value in SMALL['state_dict'].items())
        and read['meta'] == SMALL['meta']
    )


def test_a_flipped_byte_anywhere_is_harmless_or_noticed():
    data = corpus.saved(SMALL)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        weights = file.read('archive/data/0')
    noticed = []
    for at in range(len(data)):
        for flip in (0x01, 0x20, 0xFF):
            changed = bytearray(data)
            changed[at] ^= flip
            try:
                read = unpickle(io.BytesIO(changed))
            except CheckpointError:
                noticed.append(at)
            else:
                assert same(read), (at, flip)
    start = data.index(weights)
    assert set(range(start, start + len(weights))) <= set(noticed)
    assert len(set(noticed)) < len(data)  # some bytes are padding


def test_a_flipped_byte_in_the_format_before_archives_ends_in_content_or_an_error():
    # This format has no checksums: what is read may differ, but reading does not break anything.
    data = corpus.saved(SMALL, archive=False)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= random.Random(at).randrange(1, 256)
        try:
            unpickle(io.BytesIO(changed))
        except CheckpointError:
            continue


def test_the_flipped_record_is_named(tmp_path):
    data = bytearray(corpus.saved({'w': torch.ones(300)}))
    data[data.index(torch.ones(300).numpy().tobytes()) + 600] ^= 1
    (tmp_path / 'a.pth').write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r'a.pth cannot be read: .*damaged.*checksum of record data/0 does not match'
    ):
        read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.skipif(not hasattr(torch.serialization, 'get_crc32_options'), reason='this torch always writes checksums')
def test_files_written_without_checksums_are_read():
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        data = corpus.saved(SMALL)
    finally:
        torch.serialization.set_crc32_options(before)
    assert same(unpickle(io.BytesIO(data)))


def test_what_zipfile_writes_is_read():
    data = corpus.repacked(corpus.saved(SMALL), {})
    assert read_records(io.BytesIO(data))['data/0'] == 24
    assert same(unpickle(io.BytesIO(data)))
    streamed = io.BytesIO()
    streamed.seekable = lambda: False
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(streamed, 'w') as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert same(unpickle(io.BytesIO(streamed.getvalue())))


def rewritten(names: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(corpus.saved(SMALL))) as old, zipfile.ZipFile(file, 'w') as new:
        for name in old.namelist():
            new.writestr(names.get(name, name), old.read(name))
        if 'more' in names:
            new.writestr(names['more'], b'1')
    return file.getvalue()


def as_folder() -> bytes:
    """An archive whose weights are said to be a folder: PyTorch leaves uninitialised memory in their place."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(corpus.saved(SMALL))) as old, zipfile.ZipFile(file, 'w') as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0x10 if name == 'archive/data/0' else 0
            new.writestr(entry, old.read(name))
    return file.getvalue()


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (lambda: corpus.repacked(corpus.saved(SMALL), {}, zipfile.ZIP_DEFLATED), 'uncompressed'),
        (lambda: corpus.saved(SMALL) + b'a', 'its directory is missing'),
        (lambda: corpus.saved(SMALL)[:-1], 'its directory is missing'),
        (lambda: corpus.repacked(corpus.saved(SMALL), {})[:-6] + b'\0\0\0\1\0\0', 'is not at its end'),
        (lambda: rewritten({'more': 'archive/DATA/0'}), 'names of its records'),
        (lambda: rewritten({'more': 'other/data/7'}), 'names of its records'),
        (lambda: rewritten({'archive/data.pkl': 'archive/data.txt'}), 'no record data.pkl'),
        (lambda: rewritten({'more': 'archive/constants.pkl'}), 'TorchScript'),
        (lambda: corpus.saved(SMALL).replace(b'archive/data/0', b'archive/data/9', 1), 'not where the directory says'),
        (lambda: as_folder(), 'uncompressed'),
        (lambda: b'PK\x03\x04', 'a part of it is missing'),
        (lambda: b'hello\x00', 'none of the formats'),
        (lambda: b'', 'none of the formats'),
    ],
)
def test_refused(data, reason):
    with pytest.raises(CheckpointError, match=f'was not written by torch.save .*{reason}'):
        unpickle(io.BytesIO(data()))


def test_a_record_of_torchscript_is_not_run(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='was not written by torch.save'):
        read_checkpoint(tmp_path / 'a.pth')


def test_seeds_of_the_fuzzer_are_valid_and_single_opcodes_less_break_nothing():
    for name, seed in corpus.seeds().items():
        assert isinstance(unpickle(io.BytesIO(corpus.file_of(seed))), dict), name
    seed = corpus.seeds()['pickle_2']
    parts = corpus.opcodes(seed[1:])
    for i in range(len(parts)):
        try:
            unpickle(io.BytesIO(corpus.file_of(seed[:1] + b''.join(parts[:i] + parts[i + 1 :]))))
        except CheckpointError:
            continue
