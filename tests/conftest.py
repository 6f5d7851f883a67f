import os
import sys
from pathlib import Path

import pytest

if 'PYTEST_XDIST_WORKER' in os.environ:
    # One process a core: more threads would wait for one another. Torch reads it when it is imported.
    os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch

if not torch.cuda.is_available():
    # Triton reads it when it is first imported, which any test may bring about
    os.environ.setdefault('TRITON_INTERPRET', '1')

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # configs name toy_task in custom_imports


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist it is unknown
def pytest_xdist_auto_num_workers():
    """A process for each core this one may use, at most 8: each imports the toolboxes."""
    if 'PYTEST_XDIST_AUTO_NUM_WORKERS' in os.environ:
        return None
    return min(len(os.sched_getaffinity(0)), 8)


@pytest.fixture(autouse=True)
def fresh_mmengine():
    """mmengine names loggers and message hubs by the second: two runs within one would share them."""
    yield
    from forked import Training, forget_earlier_runs

    Training.end_all()
    if 'mmengine.runner' in sys.modules:
        from mmengine.registry import DefaultScope

        forget_earlier_runs()
        DefaultScope._instance_dict.clear()


@pytest.fixture
def toy_config(tmp_path, monkeypatch):
    """Path of a config that trains for two epochs in well under a second; the test runs in its own folder."""
    from toy_task import CONFIG

    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'toy.py'
    path.write_text(CONFIG)
    return str(path)
