"""What torch gained between 2.1 and 2.5, under one name each: no other file asks for torch's version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar('F', bound=Callable[..., Any])

#: Whether ops can be registered with ``torch.library``, gradients and transforms included (torch 2.5).
HAS_LIBRARY: bool = hasattr(torch.library, 'register_vmap')

#: ``torch.OutOfMemoryError`` (torch 2.5).
OutOfMemoryError: type[RuntimeError] = getattr(torch, 'OutOfMemoryError', torch.cuda.OutOfMemoryError)

#: Whether torch.compile or torch.export is taking a graph (public since torch 2.3). Torch's compiler knows either.
is_compiling: Callable[[], bool] = getattr(torch.compiler, 'is_compiling', None) or torch._utils.is_compiling  # type: ignore[attr-defined]

_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
_AUTOCAST: dict[str, tuple[str, str]] = {
    'cpu': ('is_autocast_cpu_enabled', 'get_autocast_cpu_dtype'),
    'cuda': ('is_autocast_enabled', 'get_autocast_gpu_dtype'),
}


def real_of(dtype: torch.dtype) -> torch.dtype:
    """The real type of a complex one. ``dtype.to_real()`` frees a type too often in torch 2.1, which then crashes."""
    return _REAL[dtype]


def is_autocast_enabled(kind: str) -> bool:
    """Whether autocast is active for devices of ``kind`` (takes the kind since torch 2.4)."""
    if hasattr(torch, 'get_autocast_dtype'):
        return torch.is_autocast_enabled(kind)
    return kind in _AUTOCAST and bool(getattr(torch, _AUTOCAST[kind][0])())


def autocast_dtype(kind: str) -> torch.dtype:
    """What autocast for devices of ``kind`` casts to (torch 2.4)."""
    if hasattr(torch, 'get_autocast_dtype'):
        return torch.get_autocast_dtype(kind)
    dtype: torch.dtype = getattr(torch, _AUTOCAST[kind][1])()
    return dtype


def has_global_hooks() -> bool:
    """Whether a hook is registered for all modules (torch asks by itself since 2.3)."""
    names = ('forward', 'forward_pre', 'backward', 'backward_pre')
    return any(getattr(torch.nn.modules.module, f'_global_{name}_hooks') for name in names)


def grad_scaler(kind: str, enabled: bool) -> Any:
    """Scales losses for devices of ``kind`` (``torch.amp.GradScaler`` since torch 2.3; before, on CUDA only)."""
    if hasattr(torch.amp, 'GradScaler'):
        return torch.amp.GradScaler(kind, enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled and kind == 'cuda')


def is_vector_of_cotangents(tensor: Tensor) -> bool:
    """Whether a tensor stands for several, as gradients do under ``is_grads_batched``."""
    ask = getattr(torch._C._functorch, 'is_legacy_batchedtensor', None)
    if ask is not None:
        return bool(ask(tensor))
    return 'Batched' in repr(torch._C._dispatch_keys(tensor))


def outside_graphs(function: F) -> F:
    """A function that torch.compile leaves out of its graphs where torch cannot take its op into them (below 2.5)."""
    if HAS_LIBRARY:
        return function
    from torch._compile import _disable_dynamo  # the public `torch.compiler.disable` would import the compiler now

    return _disable_dynamo(function)  # type: ignore[return-value, no-untyped-call]
