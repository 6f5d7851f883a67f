"""Small valid checkpoints of every kind, and files made of the parts of them that a fuzzer changes."""

import io
import pickle
import pickletools
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

PICKLE, ARCHIVE, LEGACY, LEGACY_PICKLE = range(4)
# Without arguments, or with one that most pickles make sense of.
OPCODES = [bytes([opcode]) for opcode in b'(.0]}\x8f)N\x88\x89aesutRb\x81\x85\x86\x87\x90\x91\x93\x94Q'] + [
    b'K\x01',
    b'h\x02',
    b'q\x03',
    b'J\xff\xff\xff\xff',
]


def content() -> dict:
    """One of everything that a checkpoint may hold."""
    weight = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    state = nn.BatchNorm1d(2).state_dict()
    state['half'] = weight.half().T
    return {
        'state_dict': state,
        'meta': {'epoch': np.int64(3), 'iter': 7, 'seed': np.arange(3.0), 'classes': ('a', 'b'), 'ok': np.bool_(True)},
        'message_hub': {
            'log_scalars': OrderedDict(loss=HistoryBuffer([1.0, 2.0], [1, 1])),
            'names': np.array(['a', 'bc']),
        },
        'milestones': Counter({3: 1}),
        'plain': [None, True, 1.5, -1, 1 << 40, b'bytes', {1, 2}, frozenset({3}), torch.Size([1, 2])],
        'more': (
            torch.float16,
            torch.device('cpu'),
            nn.Parameter(torch.ones(2)),
            torch.ones(2, dtype=getattr(torch, 'uint16', torch.int16)),
        ),
        'mask': weight > 3,
        'view': weight[1:, ::2],
    }


def old_content() -> dict:
    """Return what the format before archives can hold of it: it knows no uint16."""
    return {key: value for key, value in content().items() if key != 'more'}


def saved(value: object, archive: bool = True, protocol: int = 2) -> bytes:
    """Return the bytes that ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(value, file, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    return file.getvalue()


def repacked(data: bytes, changes: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Write an archive anew with other records, so that its checksums fit."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, 'w', compression) as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name.split('/', 1)[1], old.read(name)))
    return file.getvalue()


def pickle_of(data: bytes) -> bytes:
    """Return the record ``data.pkl`` of an archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return next(file.read(name) for name in file.namelist() if name.endswith('/data.pkl'))


def opcodes(data: bytes) -> list[bytes]:
    """Split a pickle into its opcodes with their arguments; what cannot be split is the last part."""
    starts = [0]
    try:
        for _, _, position in pickletools.genops(data):
            starts.append(position)
    except (ValueError, UnicodeDecodeError):
        pass
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def split_legacy(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Split a file of the format before archives: its head of three pickles, its pickle, its storages."""
    file = io.BytesIO(data)
    for _ in range(3):
        pickle.load(file)
    start = file.tell()
    *_, (_, _, stop) = pickletools.genops(data[start:])
    return data[:start], data[start : start + stop + 1], data[start + stop + 1 :]


_WHOLE = saved(content())
_OLD = saved(old_content(), archive=False)


def seeds() -> dict[str, bytes]:
    """Return the inputs that a fuzzer starts from, by name."""
    inputs = {f'pickle_{protocol}': (PICKLE, pickle_of(saved(content(), protocol=protocol))) for protocol in (2, 4, 5)}
    inputs['archive'] = ARCHIVE, saved({'weight': torch.ones(2, 2)})
    inputs['archive_repacked'] = ARCHIVE, repacked(_WHOLE, {})
    inputs['legacy'] = LEGACY, _OLD
    inputs['legacy_pickle'] = LEGACY_PICKLE, split_legacy(_OLD)[1]
    return {name: bytes([kind]) + data for name, (kind, data) in inputs.items()}


def file_of(data: bytes) -> bytes:
    """Make the file that an input stands for."""
    kind, body = data[0] % 4 if data else ARCHIVE, data[1:]
    if kind == PICKLE:
        return repacked(_WHOLE, {'data.pkl': body})
    if kind == LEGACY_PICKLE:
        head, _, storages = split_legacy(_OLD)
        return head + body + storages
    return body
