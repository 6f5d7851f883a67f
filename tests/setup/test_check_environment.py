"""The questions tools/setup.sh asks, over stand-in packages."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def check():
    spec = importlib.util.spec_from_file_location('check_environment', ROOT / 'tools' / 'check_environment.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def use_torch(monkeypatch, tmp_path, *, gpu=True, cuda='13.0', hip=None, nvcc='13.0'):
    """Puts a torch of these properties, and a toolkit of version `nvcc`, in the real one's place."""
    torch = types.SimpleNamespace(
        __version__='2.11.0',
        version=types.SimpleNamespace(cuda=cuda, hip=hip),
        cuda=types.SimpleNamespace(is_available=lambda: gpu, get_device_capability=lambda: (9, 0)),
    )
    if nvcc:
        (tmp_path / 'bin').mkdir()
        tool = tmp_path / 'bin' / 'nvcc'
        tool.write_text(f'#!/bin/sh\necho "Cuda compilation tools, release {nvcc}, V{nvcc}.88"\n')
        tool.chmod(0o755)
    monkeypatch.setitem(sys.modules, 'torch', torch)
    monkeypatch.setitem(sys.modules, 'torch.utils', types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, 'torch.utils.cpp_extension', types.SimpleNamespace(CUDA_HOME=str(tmp_path)))
    monkeypatch.delenv('FORCE_CUDA', raising=False)
    monkeypatch.delenv('TORCH_CUDA_ARCH_LIST', raising=False)


@pytest.mark.parametrize(
    ('machine', 'target'),
    [
        ({}, 'cuda13.0-sm90'),
        ({'gpu': False}, 'cpu'),
        ({'cuda': None}, 'cpu'),
        ({'nvcc': None}, 'cpu'),
        ({'nvcc': '12.8'}, 'cpu'),
        ({'nvcc': '13.1'}, 'cuda13.0-sm90'),
        ({'cuda': None, 'hip': '6.4'}, 'rocm6.4'),
    ],
)
def test_operators_target(check, monkeypatch, tmp_path, machine, target):
    use_torch(monkeypatch, tmp_path, **machine)
    assert check.operators_target() == target


def test_forced_cuda_takes_the_named_architectures(check, monkeypatch, tmp_path):
    use_torch(monkeypatch, tmp_path, gpu=False)
    monkeypatch.setenv('FORCE_CUDA', '1')
    assert check.operators_target() == 'cuda13.0-default'
    monkeypatch.setenv('TORCH_CUDA_ARCH_LIST', '8.0;9.0+PTX')
    assert check.operators_target() == 'cuda13.0-8.0_9.0+PTX'


def test_key_differs_by_torch_and_target(check, monkeypatch, tmp_path):
    use_torch(monkeypatch, tmp_path)
    with_gpu = check.operators_key()
    sys.modules['torch'].cuda.is_available = lambda: False
    without = check.operators_key()
    sys.modules['torch'].__version__ = '2.12.0'
    assert len({with_gpu, without, check.operators_key()}) == 3
    assert f'cp{sys.version_info[0]}{sys.version_info[1]}-torch2.11.0-cpu-' in without


def test_missing_names_what_is_not_there(check, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name in {'mmdet', 'ruff'} else real('json'))
    assert check.missing_packages() == ['mmdet', 'ruff', 'mmcv.ops']
    assert check.missing_packages(without_operators=True) == ['mmdet', 'ruff']


def test_report_names_the_culprit_in_one_line(check, capsys):
    assert check.report(('no_such_package',)) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith('error: no_such_package does not import in ')
    assert captured.err.count('\n') == 1


def test_installed_from_another_folder_is_no(check, tmp_path):
    assert not check.installed_from(str(tmp_path))
