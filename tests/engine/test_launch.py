import socket

import pytest
import torch

from pelk_mm.engine.launch import check_devices, check_launch, check_port, is_first_process
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
    for name in names:
        monkeypatch.setenv(name, '0')
    monkeypatch.setenv('PELK_MM_ALLOW_CPU', '1')
    check_launch('pytorch')
    for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'):
        monkeypatch.setenv(name, '0')
    with pytest.raises(LaunchError, match='--launcher slurm needs GPUs'):
        check_launch('slurm')


def test_is_first_process(monkeypatch):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    assert is_first_process()
    monkeypatch.setenv('SLURM_PROCID', '3')
    assert not is_first_process()
