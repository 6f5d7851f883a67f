"""Downloads from a server that breaks off, lies and answers with pages."""

import hashlib
import io
import os
import sys
import threading

import children
import pytest
import torch
from loopback import serving

from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.hub import fetch as module
from pelk_mm.hub.fetch import fetch
from pelk_mm.utils.errors import CheckpointError, ConfigError


def checkpoint(value=1.0):
    buffer = io.BytesIO()
    torch.save({'state_dict': {'w': torch.full((100_000,), value)}}, buffer)
    return buffer.getvalue()


DATA = checkpoint()
SUM = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module.time, 'sleep', lambda seconds: None)
    with serving() as server:
        server.files['/net.pth'] = DATA
        yield server


def parts(folder):
    return sorted(path.name for path in folder.glob('*') if not path.name.endswith('.lock'))


def test_a_path_is_itself(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(DATA)
    assert fetch(path) == path
    assert fetch(str(path), sha256=SUM[:8].upper()) == path
    with pytest.raises(CheckpointError, match='a.pth was altered or cut off: its SHA-256 is not 00000000$'):
        fetch(path, sha256='00000000')
    with pytest.raises(CheckpointError, match='checkpoint none.pth does not exist'):
        fetch('none.pth')


def test_downloaded_once(server, tmp_path):
    url = f'{server.address}/net.pth?download=true'
    path = fetch(url, sha256=SUM, cache=tmp_path)
    assert path.read_bytes() == DATA
    assert path.name.endswith('-net.pth')
    assert fetch(url, cache=tmp_path) == path
    assert len(server.requests) == 1
    assert parts(tmp_path) == [path.name]
    assert fetch(f'{server.address}/net.pth', cache=tmp_path) != path


@pytest.mark.parametrize('tagged', [True, False])
def test_a_broken_download_is_resumed(server, tmp_path, tagged):
    server.tagged = tagged
    server.faults = ['cut', 503, 'cut']
    assert fetch(f'{server.address}/net.pth', cache=tmp_path).read_bytes() == DATA
    ranges = [range_ for _, _, range_ in server.requests]
    half = len(DATA) // 2
    quarter = half + (len(DATA) - half) // 2
    assert ranges == ([None, f'bytes={half}-', f'bytes={half}-', f'bytes={quarter}-'] if tagged else [None] * 4)


def test_the_next_call_resumes(server, tmp_path):
    server.faults = ['cut'] * 5
    with pytest.raises(CheckpointError, match=r'cannot be had: .*; \d+ bytes are kept, and the next try resumes'):
        fetch(f'{server.address}/net.pth', cache=tmp_path)
    before = len(server.requests)
    assert fetch(f'{server.address}/net.pth', cache=tmp_path).read_bytes() == DATA
    assert server.requests[before][2] != 'bytes=0-'
    assert server.requests[before][2] is not None


def test_a_file_that_changed_meanwhile_is_fetched_whole(server, tmp_path):
    server.faults = ['cut'] * 5
    with pytest.raises(CheckpointError):
        fetch(f'{server.address}/net.pth', cache=tmp_path)
    server.files['/net.pth'] = other = checkpoint(2.0)
    assert fetch(f'{server.address}/net.pth', cache=tmp_path).read_bytes() == other


def test_a_length_that_is_a_lie(server, tmp_path):
    server.faults = ['short']
    with pytest.raises(CheckpointError, match=r'was altered or cut off: .*; remove .* to download it again'):
        fetch(f'{server.address}/net.pth', sha256=SUM, cache=tmp_path)
    (path,) = tmp_path.glob('*-net.pth')
    with pytest.raises(CheckpointError, match='is truncated'):
        read_checkpoint(path)


def test_a_page_is_not_kept(server, tmp_path):
    server.files['/net.pth'] = b'<!doctype html><title>Sign in</title>'
    with pytest.raises(CheckpointError, match='/net.pth is an HTML page, not a checkpoint'):
        fetch(f'{server.address}/net.pth', cache=tmp_path)
    assert not list(tmp_path.glob('*-net.pth'))
    server.files['/net.pth'] = DATA
    assert fetch(f'{server.address}/net.pth', cache=tmp_path).read_bytes() == DATA


@pytest.mark.parametrize('status', [403, 404, 503])
def test_a_refusal_is_one_line(server, tmp_path, status):
    server.faults = [status] * 5
    with pytest.raises(CheckpointError, match=f'/net.pth cannot be had: the server says {status}') as caught:
        fetch(f'{server.address}/net.pth', cache=tmp_path)
    assert '\n' not in str(caught.value)
    assert len(server.requests) == (5 if status == 503 else 1)


def test_nobody_answers(server, tmp_path):
    server.server_close()
    with pytest.raises(CheckpointError, match='cannot be had: .*refused'):
        fetch('http://127.0.0.1:1/net.pth', cache=tmp_path)


def test_several_at_once_download_once(server, tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(f'{server.address}/net.pth', cache=tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(server.requests) == 1


def test_a_bar_on_stderr(server, tmp_path, capsys):
    fetch(f'{server.address}/net.pth', cache=tmp_path, progress=True)
    captured = capsys.readouterr()
    assert 'net.pth' in captured.err
    assert captured.out == ''


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(CheckpointError, match='cannot be kept in .*file/cache'):
        fetch(f'{server.address}/net.pth', cache=tmp_path / 'file' / 'cache')


@pytest.mark.parametrize('source', ['hf://owner', 'hf://owner/repo', 'hf:///repo/file', 'hf://owner/@main/file'])
def test_names_that_cannot_be_of_a_hub(source):
    with pytest.raises(ConfigError, match='a file of a hub is hf://OWNER/REPO/FILE, but got'):
        fetch(source)


def test_a_hub_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ConfigError, match=r'needs huggingface_hub: pip install "pelk_mm\[hub\]"'):
        fetch('hf://owner/repo/net.pth')


FROM_HUB = """
import sys
from mmengine.runner.checkpoint import CheckpointLoader
import pelk_mm
from pelk_mm.hub.fetch import fetch
from pelk_mm.utils.errors import UserError
print(fetch('hf://owner/repo@main/net.pth'))
print(CheckpointLoader.load_checkpoint('hf://owner/repo/net.pth', 'cpu')['state_dict']['w'].sum().item())
for source in ('hf://owner/repo/none.pth',):
    try:
        fetch(source)
    except UserError as error:
        print('refused:', error)
"""


@pytest.mark.processes
def test_a_hub(server, tmp_path):
    pytest.importorskip('huggingface_hub', reason='huggingface_hub is not installed')
    server.files['/owner/repo/net.pth'] = DATA
    env = {**os.environ, 'HF_ENDPOINT': server.address, 'HF_HOME': str(tmp_path), 'HF_HUB_DISABLE_XET': '1'}
    done = children.run([sys.executable, '-c', FROM_HUB], env=env)
    assert done.returncode == 0, done.stderr
    path, total, refused = [line for line in done.stdout.splitlines() if 'mmengine' not in line]
    assert path.startswith(str(tmp_path))
    assert float(total) == 100_000
    assert refused.startswith('refused: hf://owner/repo/none.pth cannot be had: ')
