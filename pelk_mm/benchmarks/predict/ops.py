"""Predicted times of one convolution and of its gradients on an H100."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ...ops import SharingGrid
from ...ops.backends import triton_launch
from ...ops.backends.triton_start import Hardware, Launch, planned
from ...ops.backends.triton_tables import tables_of
from ...ops.segments import Segments, reachable
from .clocks import CLOCK, COPY_BYTES, ELEMENTWISE_BYTES, MULTIPROCESSORS, RESOURCES, SHORTEST, program_clocks
from .machine_code import machine_code
from .passes import Passes, passes_of

H100 = Hardware((9, 0), MULTIPROCESSORS)


@dataclass(frozen=True)
class Case:
    """A peripheral convolution.

    Attributes:
        shape: (N, C, H, W) of the input.
        sizes: The grid's segments.
        dtype: Of input and weight.
    """

    shape: tuple[int, int, int, int]
    sizes: Segments
    dtype: torch.dtype = torch.bfloat16

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int, int],
        kernel_size: int,
        central_size: int = 5,
        dtype: torch.dtype = torch.bfloat16,
    ) -> Case:
        """With the paper's grid."""
        return cls(shape, SharingGrid.exponential(kernel_size, central_size).sizes, dtype)

    @property
    def pixels(self) -> int:
        """Of all images and channels."""
        return math.prod(self.shape)

    @property
    def copy_seconds(self) -> float:
        """A device copy of the input: the least that any kernel takes."""
        return 2 * self.pixels * self.dtype.itemsize / COPY_BYTES


@dataclass(frozen=True)
class Prediction:
    """What the model says of a call.

    Attributes:
        seconds: Of all its kernels.
        copies: The same over a device copy of the input.
        clocks: Of a multiprocessor, for each pixel.
        alone: What each resource asks by itself, in clocks a pixel.
        kernels: Seconds of each kernel, by name.
    """

    seconds: float
    copies: float
    clocks: float
    alone: dict[str, float]
    kernels: dict[str, float]

    @property
    def ranked(self) -> list[str]:
        """Resources, the one that is asked most first: it binds, the next one would be next."""
        return sorted(self.alone, key=lambda resource: -self.alone[resource])


def predict_forward(case: Case) -> Prediction:
    """The convolution; the gradient by its input is the same."""
    return _predict(case, gradient=False)


def predict_weight_gradient(case: Case) -> Prediction:
    """The gradient by the kernel's parameters."""
    return _predict(case, gradient=True)


def launch_seconds(launch: Launch, passes: Mapping[str, Passes]) -> tuple[float, dict[str, float]]:
    """Seconds of one launch, and the clocks that all its programs ask of each resource."""
    code = machine_code(launch, H100.capability)
    each = math.ceil(launch.programs / MULTIPROCESSORS)
    clocks = program_clocks(code, passes, min(code.resident, each))
    asked = {resource: launch.programs * value for resource, value in clocks.alone.items()}
    return max(each * clocks.total / CLOCK, SHORTEST), asked


def launches_of(case: Case, gradient: bool, hardware: Hardware = H100) -> tuple[list[Launch], dict[str, float]]:
    """What is launched for the convolution or the gradient by its weight, and seconds of torch's own kernels."""
    meta = torch.device('meta')
    x = torch.empty(case.shape, dtype=case.dtype, device=meta)
    weight = torch.empty(case.shape[1], 1, len(case.sizes), len(case.sizes), dtype=case.dtype, device=meta)
    tables = tables_of(case.sizes, case.sizes, meta)
    with planned(hardware) as launches, OtherKernels() as others:
        if gradient:
            triton_launch.backward(x, x, weight, case.sizes, case.sizes, False, True, tables)
        else:
            triton_launch.forward(x, weight, case.sizes, case.sizes, None, tables)
    return launches, others.seconds


def _predict(case: Case, gradient: bool) -> Prediction:
    launches, others = launches_of(case, gradient)
    rows = reachable(case.sizes, case.shape[2]).sizes
    kernels: dict[str, float] = defaultdict(float)
    alone = dict.fromkeys(RESOURCES, 0.0)
    for launch in launches:
        seconds, resources = launch_seconds(launch, passes_of(launch, rows))
        kernels[launch.kernel.fn.__name__] += seconds
        for resource, value in resources.items():
            alone[resource] += value / case.pixels
    kernels.update(others)
    seconds = sum(kernels.values())
    clocks = seconds * CLOCK * MULTIPROCESSORS / case.pixels
    return Prediction(seconds, seconds / case.copy_seconds, clocks, alone, kernels)


class OtherKernels(TorchDispatchMode):
    """Torch's own kernels of a call on meta tensors: what each would move, in seconds by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        inputs = [arg for arg in args if isinstance(arg, Tensor)]
        outputs = [
            out for out in (result if isinstance(result, (tuple, list)) else [result]) if isinstance(out, Tensor)
        ]
        storages = {tensor.untyped_storage()._cdata for tensor in inputs}
        name = function.overloadpacket.__name__
        views = all(out.untyped_storage()._cdata in storages for out in outputs) and not name.endswith('_')
        if outputs and not views and not name.startswith(('empty', 'new_empty')):
            moved = sum(tensor.numel() * tensor.itemsize for tensor in inputs + outputs)
            self.seconds[name] += max(moved / ELEMENTWISE_BYTES, SHORTEST)
        return result
