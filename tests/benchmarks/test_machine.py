import contextlib
from types import SimpleNamespace

import pytest
import torch

from pelk_mm.benchmarks import machine


def test_versions_stand_beside_a_figure(monkeypatch):
    monkeypatch.setenv('PELK_MM_BACKEND', 'dense')
    facts = machine.describe_machine(torch.device('cpu'))
    assert facts['torch'] == torch.__version__
    assert facts['PELK_MM_BACKEND'] == 'dense'
    assert {'processor', 'cores', 'threads', 'python', 'triton', 'last-level cache'} <= set(facts)
    assert 'gpu' not in facts


def test_a_gpu_says_cuda_and_cudnn(monkeypatch):
    properties = SimpleNamespace(name='NVIDIA H100', major=9, minor=0, L2_cache_size=50 << 20)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: properties)
    facts = machine.describe_machine(torch.device('cuda'))
    assert (facts['gpu'], facts['compute capability']) == ('NVIDIA H100', '9.0')
    assert {'cuda', 'cudnn'} <= set(facts)
    assert facts['last-level cache'] == '50 MiB'


def test_the_last_cache_of_a_cpu(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, 'CPU_CACHES', tmp_path)
    assert machine.cache_bytes(torch.device('cpu')) == machine.DEFAULT_CACHE_BYTES
    for index, (level, size) in enumerate([('1', '48K'), ('3', '36M'), ('2', '2048K'), ('4', 'unknown')]):
        folder = tmp_path / f'index{index}'
        folder.mkdir()
        (folder / 'level').write_text(level + '\n')
        (folder / 'size').write_text(size + '\n')
    assert machine.cache_bytes(torch.device('cpu')) == 36 << 20


@pytest.mark.parametrize('name', ['abacus', 'meta', 'xpu:0'])
def test_unknown_devices(name):
    with pytest.raises(ValueError, match=f"device must be 'cpu' or 'cuda', but got '{name}'"):
        machine.check_device(name)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='no CUDA GPU here; use --device cpu'):
        machine.check_device('cuda')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    assert machine.check_device('cuda:0') == torch.device('cuda:0')
    with pytest.raises(ValueError, match="device is 'cuda:1', but torch sees 1 CUDA GPUs"):
        machine.check_device('cuda:1')


def test_settings_are_put_back(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device', lambda device: contextlib.nullcontext())
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def now():
        return cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32

    before = now()
    with machine.benchmark_settings(torch.device('cuda'), tf32=not before[1]):
        assert now() == (True, not before[1], not before[1])
    assert now() == before
    with machine.benchmark_settings(torch.device('cpu')):
        assert now() == before
