"""Which devices PyTorch has here; every caller says in its own words what is missing."""

from __future__ import annotations

import torch


def find_device(name: torch.device | str) -> torch.device | None:
    """The device of that name; None where PyTorch knows no such name."""
    try:
        return torch.device(name)
    except RuntimeError:
        return None


def gpu_count() -> int:
    """How many GPUs PyTorch can use; 0 where it was built without CUDA."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def is_present(device: torch.device) -> bool:
    """Whether this machine has the device, as far as its type can be asked: a GPU by its number."""
    return device.type != 'cuda' or (device.index or 0) < gpu_count()
