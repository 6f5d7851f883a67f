import socket

import pytest
import torch

from pelk_mm.engine.launch import check_devices, check_launch, check_port, start_processes
from pelk_mm.utils.errors import LaunchError


@pytest.fixture
def gpus(monkeypatch):
    def set_count(count):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)

    monkeypatch.delenv('PELK_MM_ALLOW_CPU', raising=False)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    return set_count


def test_more_gpus_asked_than_present(gpus, monkeypatch):
    gpus(2)
    check_devices(2)
    with pytest.raises(LaunchError, match='8 GPUs asked for, but this machine has 2$'):
        check_devices(8)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    with pytest.raises(LaunchError, match=r'has 2 \(CUDA_VISIBLE_DEVICES=0,1\)'):
        check_devices(3)
    with pytest.raises(LaunchError, match='must be at least 1, but got 0'):
        check_devices(0)


def test_no_gpu_at_all(gpus, monkeypatch):
    gpus(0)
    with pytest.raises(LaunchError, match=r'8 GPU\(s\) asked for, but PyTorch sees none .*PELK_MM_ALLOW_CPU=1 .* gloo'):
        check_devices(8)
    monkeypatch.setenv('PELK_MM_ALLOW_CPU', '1')
    check_devices(8)


def test_port_in_use():
    with socket.socket() as taken:
        taken.bind(('', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LaunchError, match=rf'port {port} cannot be used \(Address already in use\).* PORT=\d+'):
            check_port(port)
    check_port(port)
    with pytest.raises(LaunchError, match='PORT must lie between 1 and 65535, but got 70000'):
        check_port(70000)


def test_launcher_without_its_environment(gpus, monkeypatch):
    gpus(0)
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    for name in names:
        monkeypatch.delenv(name, raising=False)
    check_launch('none')
    with pytest.raises(LaunchError, match=r'pytorch needs .*RANK, WORLD_SIZE.* bash tools/dist_train.sh'):
        check_launch('pytorch')
    for name, value in zip(names, ('0', '2', '0', 'localhost', '29500'), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('PELK_MM_ALLOW_CPU', '1')
    check_launch('pytorch')
    for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'):
        monkeypatch.setenv(name, '1' if name == 'SLURM_NTASKS' else '0')
    with pytest.raises(LaunchError, match='--launcher slurm needs GPUs'):
        check_launch('slurm')


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('RANK', '2', 'RANK must lie below WORLD_SIZE, which is 2, but is 2'),
        ('RANK', '-1', "RANK must be a whole number, but is '-1'"),
        ('WORLD_SIZE', '0', 'RANK must lie below WORLD_SIZE, which is 0, but is 0'),
        ('LOCAL_RANK', 'abc', "LOCAL_RANK must be a whole number, but is 'abc'"),
        ('LOCAL_RANK', '8', 'LOCAL_RANK must lie below LOCAL_WORLD_SIZE, which is 1, but is 8'),
        ('MASTER_PORT', '0', 'PORT must lie between 1 and 65535, but got 0'),
    ],
)
def test_numbers_that_cannot_be(gpus, monkeypatch, name, value, message):
    gpus(0)
    good = {'RANK': '0', 'WORLD_SIZE': '2', 'LOCAL_RANK': '0', 'LOCAL_WORLD_SIZE': '1', 'MASTER_ADDR': 'localhost'}
    for key, text in {**good, 'MASTER_PORT': '29500', 'PELK_MM_ALLOW_CPU': '1', name: value}.items():
        monkeypatch.setenv(key, text)
    with pytest.raises(LaunchError, match=message):
        check_launch('pytorch')


@pytest.mark.parametrize(
    ('machines', 'number', 'message'),
    [(0, 0, r'\(NNODES\) must be at least 1, but got 0'), (2, 2, 'NODE_RANK must lie between 0 and 1.* but got 2')],
)
def test_machines_that_cannot_be(gpus, machines, number, message):
    gpus(1)
    with pytest.raises(LaunchError, match=message):
        start_processes('none.py', [], 1, nnodes=machines, node_rank=number)
