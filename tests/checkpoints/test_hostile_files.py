"""Files made to run code, to reach outside their memory or to fill the machine's."""

import argparse
import codecs
import io
import math
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict

import corpus
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from pelk_mm.checkpoints.reading import unpickle
from pelk_mm.utils.errors import CheckpointError

TERA = 1 << 40
STOP = pickle.STOP


class Call:
    """Pickled as a call of anything, with a state if one is given."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def error_of(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        unpickle(io.BytesIO(data))
    assert str(caught.value).isprintable()
    return str(caught.value)


def archive_of(pickled: bytes) -> bytes:
    """An archive with storages 0 to 5 of a few bytes and this pickle."""
    return corpus.file_of(bytes([corpus.PICKLE]) + pickled)


def opcodes(*parts) -> bytes:
    return b'\x80\x02' + b''.join(parts) + STOP


def text(value: str) -> bytes:
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def whole(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def named(module: str, name: str) -> bytes:
    return f'c{module}\n{name}\n'.encode()


def storage(key='0', kind='FloatStorage', count=2) -> bytes:
    return b'(' + text('storage') + named('torch', kind) + text(key) + text('cpu') + whole(count) + b'tQ'


def tensor(offset=0, size=(2,), stride=(1,), **kwargs) -> bytes:
    hooks = named('collections', 'OrderedDict') + b')R'
    sizes = b''.join(b'(' + b''.join(map(whole, values)) + b't' for values in (size, stride))
    rebuild = named('torch._utils', '_rebuild_tensor_v2')
    return rebuild + b'(' + storage(**kwargs) + whole(offset) + sizes + b'\x89' + hooks + b'tR'


def array(shape: bytes, data: bytes, code='f8', extra=b'') -> bytes:
    start = (
        named('numpy.core.multiarray', '_reconstruct') + named('numpy', 'ndarray') + b'K\x00\x85' + text('b') + b'\x87R'
    )
    dtype = named('numpy', 'dtype') + text(code) + b'\x89\x88\x87R' + extra
    return start + b'(K\x01' + shape + dtype + b'\x89' + data + b'tb'


@pytest.mark.parametrize(
    ('value', 'name'),
    [
        (Call(os.system, 'true'), 'posix.system'),
        (Call(eval, '1'), 'builtins.eval'),
        (Call(getattr, HistoryBuffer, '__init__'), 'builtins.getattr'),
        (Call(np.ndarray, (4,), np.dtype('f8'), b'12345678', 4096), 'numpy.ndarray'),
        (Call(np.frombuffer, b'12345678'), 'numpy.frombuffer'),
        (Call(torch.storage._load_from_bytes, b''), 'torch.storage._load_from_bytes'),
        (Call(torch.load, 'a.pth'), 'torch.serialization.load'),
        (Call(torch.empty, TERA), 'torch'),
        (Call(codecs.decode, b'1', 'rot13'), '_codecs.decode'),
        (argparse.Namespace(a=1), 'argparse.Namespace'),
        (OrderedDict, 'collections.OrderedDict'),
        (np.ndarray, 'numpy.ndarray'),
        (os.path.join, 'posixpath.join'),
        (torch.zeros(2).to_sparse(), 'torch._utils._rebuild_sparse_tensor'),
        (np.array([None], object), 'an array is not of numbers'),
        (complex(1, 2), 'builtins.complex'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_what_is_not_in_the_table_is_refused_by_name(value, name):
    for archive in (True, False):
        message = error_of(corpus.saved({'state_dict': {}, 'other': value}, archive=archive))
        assert re.search(name if ' ' in name else f'is refused: unpickling it would use {name}', message), message


REFUSED = {
    'opcode of a call without a table': opcodes(b'(ios\nsystem\n'),
    'text form of an integer': opcodes(b'I1\n'),
    'extension': opcodes(b'\x82\x01'),
    'storage by text': opcodes(b'P0\n'),
    'buffer outside': b'\x80\x05\x97.',
    'giant integer': opcodes(b'\x8b' + struct.pack('<i', 1 << 30)),
    'giant text': opcodes(b'X' + struct.pack('<I', 0xFFFFFFFF)),
    'giant bytes': b'\x80\x04\x8e' + struct.pack('<Q', TERA) + STOP,
    'giant bytearray': b'\x80\x05\x96' + struct.pack('<Q', TERA) + STOP,
    'giant frame': b'\x80\x04\x95' + struct.pack('<Q', TERA) + STOP,
    'many sets': opcodes(b'(' + b'\x8f' * 1_000_000 + b't'),
    'many dictionaries': opcodes(b'(' + b'}' * 1_000_000 + b't'),
    'many marks': opcodes(b'(' * 1_000_000),
    'many lists': opcodes(b'(' + b']' * 1_000_000 + b't'),
    'deep tuple as a key': opcodes(b'})', b'\x85' * 1_000_000, b'Ns'),
    'deep tuple': opcodes(b')', b'\x85' * 200_000),
    'nested tuple as a key': opcodes(b'})\x85\x85Ns'),
    'list as a key': opcodes(b'}]Ns'),
    'tuple in a set': b'\x80\x04\x8f()\x85\x85\x90.',
    'list in itself': opcodes(b']q\x00h\x00a'),
    'dictionary in itself': opcodes(b'}q\x00Nh\x00s'),
    'powers of two': opcodes(b']q\x00', b''.join(b'](h\x00h\x00eq\x00' for _ in range(40))),
    'call of a dictionary': opcodes(b'})R'),
    'call of a dtype': opcodes(named('torch', 'float32'), b')R'),
    'call of a marker': opcodes(named('numpy', 'ndarray'), b')R'),
    'state of a list': opcodes(b']}b'),
    'state of a tensor': opcodes(tensor(), b'}', text('_backward_hooks'), b'Nsb'),
    'state of an OrderedDict': opcodes(named('collections', 'OrderedDict'), b')R}', text('items'), b'Nsb'),
    'append to a set': b'\x80\x04\x8fNa.',
    'items of a list': opcodes(b']NNs'),
    'tensor beyond its storage': opcodes(tensor(size=(3,))),
    'tensor of a tera': opcodes(tensor(size=(TERA,))),
    'tensor of a tera, repeated': opcodes(tensor(size=(TERA,), stride=(0,))),
    'offset beyond the storage': opcodes(tensor(offset=1)),
    'negative offset': opcodes(tensor(offset=-1, size=(1,))),
    'negative stride': opcodes(tensor(offset=1, stride=(-1,))),
    'negative size': opcodes(tensor(size=(-1,))),
    'sizes that overflow': opcodes(tensor(size=(1 << 33, 1 << 33), stride=(0, 0))),
    'sizes that overflow around zero': opcodes(tensor(size=(0, 1 << 61, 1 << 61), stride=(1, 1, 1))),
    'strides that are not as many': opcodes(tensor(stride=(1, 1))),
    'storage of a tera': opcodes(storage(count=TERA)),
    'storage longer than its record': opcodes(storage(count=3)),
    'storage that is not there': opcodes(storage(key='77')),
    'storage in another folder': opcodes(storage(key='../version', kind='ByteStorage', count=1)),
    'storage of another case': opcodes(storage(key='A')),
    'quantized storage': opcodes(storage(kind='QInt8Storage', count=1)),
    'negative storage': opcodes(storage(count=-1)),
    'container source': opcodes(b'(' + text('module') + text('a') + text('b') + text('c') + b'tQ'),
    'truth value 2': opcodes(tensor(kind='BoolStorage', size=(8,), count=8)),
    'array of a tera': opcodes(array(whole(TERA) + b'\x85', b'C\x08' + b'\0' * 8)),
    'array that overflows': opcodes(array(whole(1 << 61) * 2 + b'\x86', b'C\x00')),
    'array cut off': opcodes(array(whole(2) + b'\x85', b'C\x08' + b'\0' * 8)),
    'array of objects': opcodes(array(whole(1) + b'\x85', b'C\x08' + b'\x01' * 8, code='O')),
    'array of objects as a list': opcodes(array(whole(1) + b'\x85', b'](NNe', code='O8')),
    'array of records': opcodes(array(whole(1) + b'\x85', b'C\x08' + b'\x01' * 8, code='i4,i4')),
    'array of another byte order': opcodes(
        array(whole(1) + b'\x85', b'C\x08' + b'\0' * 8, extra=b'(K\x03' + text('>') + b'NNNK\x08K\x08K\x00tb')
    ),
    'truth value 2 of numpy': opcodes(array(whole(1) + b'\x85', b'C\x01\x02', code='b1')),
    'impossible character': opcodes(array(whole(1) + b'\x85', b'C\x04\xff\xff\xff\xff', code='U1')),
    'giant characters': opcodes(named('numpy', 'dtype'), text('U999999999'), b'\x89\x88\x87R'),
    'HistoryBuffer with arguments': opcodes(named('mmengine.logging.history_buffer', 'HistoryBuffer'), b'K\x01\x85R'),
    'HistoryBuffer of text': opcodes(
        named('mmengine.logging.history_buffer', 'HistoryBuffer'), b')\x81}', text('_log_history'), text('a'), b'sb'
    ),
    'name of several lines': b'\x80\x04\x8c\x02a\n\x8c\x02\x1bb\x93.',
    'long name': opcodes(b'c' + b'a' * 1000 + b'\nb\n'),
    'empty': b'',
    'no STOP': b'\x80\x02N',
    'STOP only': b'.',
    'protocol 9': b'\x80\x09N.',
}  # fmt: skip


@pytest.mark.parametrize('case', REFUSED)
def test_refused(case):
    assert error_of(archive_of(REFUSED[case]))
    head, _, storages = corpus.split_legacy(corpus.saved(corpus.old_content(), archive=False))
    assert error_of(head + REFUSED[case].replace(b'tQ', b'NtQ') + storages)


def test_the_parts_that_those_cases_change_are_valid():
    for parts in (tensor(), storage(), array(whole(1) + b'\x85', b'C\x08' + b'\0' * 8), tensor(size=(3,), stride=(0,))):
        unpickle(io.BytesIO(archive_of(opcodes(parts))))
    deep = opcodes(b')', b'\x85' * 60)
    assert unpickle(io.BytesIO(archive_of(deep)))
    shared = unpickle(io.BytesIO(archive_of(opcodes(b']q\x00', b''.join(b'](h\x00h\x00eq\x00' for _ in range(10))))))
    assert shared[0] is shared[1]


def test_storages_of_an_old_file_that_are_not_listed_would_be_uninitialised():
    head, body, storages = corpus.split_legacy(corpus.saved({'w': torch.ones(2)}, archive=False))
    assert unpickle(io.BytesIO(head + body + storages))['w'].tolist() == [1, 1]
    assert 'storages that follow' in error_of(head + body + b'\x80\x02].')
    assert 'memory' in error_of(head + body.replace(b'K\x02', b'J' + struct.pack('<i', 1 << 30)) + storages)


def test_a_file_that_is_a_tar_archive_too():
    head = corpus.saved({'w': torch.ones(1)}, archive=False)[:100]
    data = bytearray(head.ljust(1024, b'\0'))
    data[148:156] = b' ' * 8
    data[148:156] = b'%06o\0 ' % sum(data[:512])
    assert 'tar archive' in error_of(bytes(data))


def test_shapes_of_many_dimensions_and_empty_arrays():
    value = {'t': torch.zeros(*[2] * 13), 'e': np.zeros((0, 3)), 'h': HistoryBuffer()}
    assert math.prod(value['t'].stride()) > 1 << 62
    for protocol in (2, 5):
        read = unpickle(io.BytesIO(corpus.saved(value, protocol=protocol)))
        assert read['t'].shape == value['t'].shape
        assert read['e'].shape == (0, 3)
        assert len(vars(read['h'])['_log_history']) == 0


def test_namespaces_only_where_they_are_asked_for():
    data = corpus.saved({'args': argparse.Namespace(lr=1.0), 'w': torch.ones(1)})
    assert 'argparse.Namespace' in error_of(data)
    assert unpickle(io.BytesIO(data), namespaces=True)['args'].lr == 1.0
    hidden = corpus.saved({'args': argparse.Namespace(lr=Call(os.system, 'true'))})
    with pytest.raises(CheckpointError, match='posix.system'):
        unpickle(io.BytesIO(hidden), namespaces=True)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_every_protocol_and_both_formats_give_the_same(protocol):
    want = corpus.content()
    for archive in (True, False):
        saved = want if archive else corpus.old_content()
        got = unpickle(io.BytesIO(corpus.saved(saved, archive, protocol)))
        assert list(got) == list(saved)
        assert torch.equal(got['view'], want['view'])
        assert got['mask'].dtype == torch.bool
        assert got['state_dict']._metadata == want['state_dict']._metadata
        assert got['plain'] == want['plain']
        assert got['meta']['epoch'] == 3
        assert isinstance(got['milestones'], Counter)
        history = got['message_hub']['log_scalars']['loss']
        assert (history.mean(), history.statistics('max')) == (1.5, 2.0)
        history.update(3.0)


GROWTH = """
import sys
from pelk_mm.checkpoints.reading import unpickle
from pelk_mm.utils.errors import CheckpointError

def highest():  # of this program; getrusage also counts that of the one that started it
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith('VmHWM'))

_, small, file = sys.argv
unpickle(small)
before = highest()
try:
    unpickle(file)
except CheckpointError:
    pass
print(highest() - before)
"""

MEGA = 1 << 20


def numbers(count: int, after: bytes = b'') -> bytes:
    return b''.join(b'J' + struct.pack('<i', i) + after for i in range(count))


def with_records(count: int) -> bytes:
    file = io.BytesIO(corpus.repacked(corpus.saved({'a': 1}), {}))
    with zipfile.ZipFile(file, 'a') as archive:
        for i in range(count):
            archive.writestr(f'archive/data/{i}', b'')
    return file.getvalue()


GREEDY = {
    'lists': lambda: archive_of(opcodes(b'(' + b']' * 8 * MEGA + b't')),
    'sets': lambda: archive_of(opcodes(b'(' + b'\x8f' * MEGA + b't')),
    'dictionaries': lambda: archive_of(opcodes(b'(' + b'}NNs' * MEGA + b't')),
    'texts': lambda: archive_of(opcodes(b'(' + (b'U\x02ab' * 4 * MEGA) + b't')),
    'floats': lambda: archive_of(opcodes(b'(' + (b'G' + b'\1' * 8) * 4 * MEGA + b't')),
    'wide text': lambda: archive_of(opcodes(text('a' * 40 * MEGA + '\U0001f600'))),
    'memo': lambda: archive_of(opcodes(b']' + b''.join(b'r' + struct.pack('<I', i) for i in range(2 * MEGA)))),
    'set of numbers': lambda: archive_of(b'\x80\x04\x8f(' + numbers(MEGA) + b'\x90.'),
    'dictionary of numbers': lambda: archive_of(opcodes(b'}(' + numbers(MEGA, b'N') + b'u')),
    'tensors': lambda: archive_of(opcodes(b'(' + tensor() * (MEGA // 8) + b't')),
    'floats that are read': lambda: archive_of(opcodes(b'(' + (b'G' + b'\1' * 8) * 900_000 + b't')),
    'texts that are read': lambda: archive_of(opcodes(b'(' + b'U\x02ab' * 400_000 + b't')),
    'lists that are read': lambda: archive_of(opcodes(b'(' + b']' * 75_000 + b't')),
    'keys that are read': lambda: archive_of(opcodes(b'}(' + numbers(200_000, b'N') + b'u')),
    'tensors that are read': lambda: archive_of(opcodes(b'(' + tensor() * 6_000 + b't')),
    'records': lambda: with_records(90_000),
    'an array': lambda: corpus.saved({'a': np.zeros(8 * MEGA)}),
    'weights': lambda: corpus.saved({'a': torch.zeros(32 * MEGA)}),
    'old weights': lambda: corpus.saved({'a': torch.zeros(32 * MEGA)}, archive=False),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='reads memory as Linux shows it')
@pytest.mark.parametrize('case', GREEDY)
def test_memory_stays_below_twice_the_file_and_64_mib(case, tmp_path):
    files = [tmp_path / 'small.pth', tmp_path / 'file.pth']
    files[0].write_bytes(corpus.saved(corpus.content()))
    files[1].write_bytes(GREEDY[case]())
    done = subprocess.run([sys.executable, '-c', GROWTH, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    size = files[1].stat().st_size
    assert 0 < int(done.stdout) <= 2 * size + (64 << 20), f'{int(done.stdout) >> 20} MiB for {size >> 20} MiB'
