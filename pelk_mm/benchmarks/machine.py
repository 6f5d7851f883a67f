"""What a timing depends on beside the code: the machine, its versions, its caches and the settings of cuDNN."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..utils.devices import find_device, gpu_count, is_present

CPU_CACHES = Path('/sys/devices/system/cpu/cpu0/cache')
#: Environment variables that change what is timed; they stand beside the versions where they are set.
VARIABLES = ('PELK_MM_BACKEND', 'TRITON_INTERPRET')
#: Where the system does not tell: more than most processors and GPUs have.
DEFAULT_CACHE_BYTES = 64 << 20


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor or GPU, threads and versions: what has to stand beside a figure."""
    machine: dict[str, Any] = {
        'processor': _processor(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'triton': _version('triton'),
    }
    if device.type == 'cuda':
        properties = torch.cuda.get_device_properties(device)
        machine |= {
            'gpu': properties.name,
            'compute capability': f'{properties.major}.{properties.minor}',
            'cuda': torch.version.cuda,
            'cudnn': torch.backends.cudnn.version(),
        }
    machine['last-level cache'] = f'{cache_bytes(device) / 2**20:.0f} MiB'
    return machine | {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}


def cache_bytes(device: torch.device) -> int:
    """Size of the last cache before the memory: L2 of a GPU, the highest level of the first core of a CPU."""
    if device.type == 'cuda':
        properties = torch.cuda.get_device_properties(device)
        return int(getattr(properties, 'L2_cache_size', 0)) or DEFAULT_CACHE_BYTES
    levels: dict[int, int] = {}
    for cache in CPU_CACHES.glob('index*') if device.type == 'cpu' else ():
        try:
            level, size = int((cache / 'level').read_text()), (cache / 'size').read_text().strip()
            levels[level] = max(levels.get(level, 0), int(size[:-1]) << {'K': 10, 'M': 20, 'G': 30}[size[-1]])
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return levels[max(levels)] if levels else DEFAULT_CACHE_BYTES


def check_device(name: torch.device | str) -> torch.device:
    """The device, if it can be had.

    Raises:
        ValueError: It is no device, of a type that cannot be measured here, or CUDA without a GPU.
    """
    device = find_device(name)
    if device is None or device.type not in ('cpu', 'cuda'):
        raise ValueError(f"device must be 'cpu' or 'cuda', but got {str(name)!r}")
    if not is_present(device):
        seen = f'{gpu_count()} CUDA GPUs' if gpu_count() else 'no CUDA GPU here; use --device cpu'
        raise ValueError(f"device is '{device}', but torch sees {seen}")
    return device


@contextmanager
def benchmark_settings(device: torch.device, tf32: bool = False) -> Iterator[None]:
    """On CUDA: cuDNN tries its algorithms, and float32 is rounded to TF32 or not, in all variants alike.

    Settings and current device are as before afterwards. On a CPU nothing changes.
    """
    if device.type != 'cuda':
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    try:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, tf32, tf32
        with torch.cuda.device(device):
            yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def _processor() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return 'not installed'
