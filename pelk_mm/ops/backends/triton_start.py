"""Starting Triton kernels. Of meta tensors a start is only noted, so that kernels can be compiled or counted before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Hardware(NamedTuple):
    """What launches depend on."""

    capability: tuple[int, int]
    """Compute capability, (9, 0) for sm_90."""
    multiprocessors: int
    """How many of them the device has."""


class Launch(NamedTuple):
    """A kernel with everything it is started with."""

    kernel: Any
    programs: int
    arguments: dict[str, Any]
    """Tensors and numbers by the kernel's names."""
    options: dict[str, Any]
    """Constants of the kernel and of its compilation."""

    def compile(self) -> None:
        """Compile for the current CUDA device, where no binary of it is known or in Triton's cache."""
        arguments = (value.dtype if isinstance(value, Tensor) else value for value in self.arguments.values())
        self.kernel.warmup(*arguments, grid=(self.programs,), **self.options)


#: What the interpreter takes for a GPU: the newest kernels, in a few programs, so that there are parts to sum.
INTERPRETER = Hardware((9, 0), 8)

_plan: ContextVar[tuple[Hardware, list[Launch]] | None] = ContextVar('_plan', default=None)


@contextmanager
def planned(hardware: Hardware) -> Iterator[list[Launch]]:
    """Within it, launches on meta tensors are those for ``hardware``, and are added to the list it gives."""
    launches: list[Launch] = []
    token = _plan.set((hardware, launches))
    try:
        yield launches
    finally:
        _plan.reset(token)


def hardware_of(device: torch.device) -> Hardware:
    """What launches on tensors of ``device`` are made for."""
    if device.type == 'cuda':
        return _cuda_hardware(device)
    plan = _plan.get()
    if device.type == 'meta' and plan is not None:
        return plan[0]
    return INTERPRETER


@cache
def _cuda_hardware(device: torch.device) -> Hardware:
    properties = torch.cuda.get_device_properties(device)
    return Hardware((properties.major, properties.minor), properties.multi_processor_count)


def launch(kernel: Any, programs: int, input: Tensor, *args: Any, **options: Any) -> None:
    """Start ``programs`` of a kernel, whose first argument is ``input``, on the input's device."""
    if input.is_meta:
        plan = _plan.get()
        assert plan is not None, 'kernels of meta tensors can only be planned'
        plan[1].append(Launch(kernel, programs, dict(zip(kernel.arg_names, (input, *args), strict=False)), options))
        return
    with torch.cuda.device(input.device) if input.is_cuda else nullcontext():
        kernel[(programs,)](input, *args, **options)


def interpreting() -> bool:
    """Whether Triton interprets its kernels, on CPU tensors."""
    return os.environ.get('TRITON_INTERPRET') == '1'
