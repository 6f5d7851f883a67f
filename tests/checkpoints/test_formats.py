"""Files that are no `torch.save`: safetensors are read, and pages, pointers and texts are called by their names."""

import argparse
import io
import pathlib
import sys

import corpus
import pytest
import torch

from pelk_mm.checkpoints.reading import read_checkpoint, unpickle
from pelk_mm.utils.errors import CheckpointError

WEIGHTS = {'a.weight': torch.arange(6.0).reshape(2, 3), 'b': torch.zeros(0, dtype=torch.int64)}


@pytest.fixture
def file(tmp_path):
    """Call it with bytes for the path of a file that holds them."""

    def write(data):
        path = tmp_path / 'net.pth'
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def packed():
    torch_format = pytest.importorskip('safetensors.torch', reason='safetensors is not installed')
    return torch_format.save(WEIGHTS)


@pytest.mark.parametrize('trust', [False, True])
def test_safetensors_under_any_name(file, packed, trust):
    read = read_checkpoint(file(packed), trust=trust)['state_dict']
    assert set(read) == set(WEIGHTS)
    assert all(torch.equal(read[key], value) and read[key].dtype == value.dtype for key, value in WEIGHTS.items())
    assert unpickle(io.BytesIO(packed), 'meta')['b'].is_meta


@pytest.mark.parametrize('cut', [9, 40, -1])
def test_damaged_safetensors(file, packed, cut):
    with pytest.raises(CheckpointError, match=r'net.pth cannot be read: it is truncated'):
        read_checkpoint(file(packed[:cut]))


def test_safetensors_without_the_package(file, packed, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    with pytest.raises(CheckpointError, match=r'a file of safetensors, which needs: pip install "pelk_mm\[hub\]"'):
        read_checkpoint(file(packed))


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'<!DOCTYPE html>\n<html><body>404 \xe2\x80\xa6', 'is an HTML page, not a checkpoint: .*download the file'),
        (b'\xef\xbb\xbf\n<HTML>', 'is an HTML page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'is a pointer of Git LFS.*git lfs pull'),
        (b'{"error": "not found"}\n', 'is a text file, not a checkpoint'),
        (b'', 'is truncated'),
        (bytes(range(256)), 'starts as none of the formats'),
    ],
)
@pytest.mark.parametrize('trust', [False, True])
def test_what_is_no_checkpoint(file, data, message, trust):
    if trust and not data.startswith((b'<', b'\xef', b'v', b'{')):
        pytest.skip("with trust the words are PyTorch's")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(file(data), trust=trust)


@pytest.mark.parametrize('kind', [pathlib.Path, pathlib.PurePosixPath, pathlib.PureWindowsPath])
def test_paths_in_a_command_line(kind):
    data = corpus.saved({'args': argparse.Namespace(output_dir=kind('work', 'run'), lr=1.0), 'w': torch.ones(1)})
    args = unpickle(io.BytesIO(data), namespaces=True)['args']
    assert args.output_dir == 'work/run'
    with pytest.raises(CheckpointError, match='refused'):
        unpickle(io.BytesIO(data))


def test_a_path_of_something_else_than_text():
    class Number:
        def __reduce__(self):
            return pathlib.PurePosixPath, (b'a',)

    data = corpus.saved({'args': Number(), 'w': torch.ones(1)})
    with pytest.raises(CheckpointError, match='a path is not made of text'):
        unpickle(io.BytesIO(data), namespaces=True)
