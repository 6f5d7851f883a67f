"""The arguments of a convolution: checked, so that bad input never reaches a traceback from inside torch, and cast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..utils.compat import autocast_dtype
from .tracing import autocast_active

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_tensors(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check types, ranks, dtypes and devices of a depthwise convolution's arguments.

    Raises:
        TypeError: Not a tensor, not floating point, or a mix of dtypes.
        ValueError: ``input`` is not (N, C, H, W) with C, H, W >= 1, ``bias`` is neither (C,) nor (C, H, W), or
            devices differ.
    """
    tensors = {'input': input, 'weight': weight} | ({} if bias is None else {'bias': bias})
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, but got {type(tensor).__name__}')
        if tensor.dtype not in DTYPES:
            raise TypeError(f'{name} must be float32, float64, float16 or bfloat16, but got {tensor.dtype}')
    if input.ndim != 4 or min(input.shape[1:]) < 1:
        raise ValueError(f'input must have shape (N, C, H, W) with C, H, W >= 1, but got {tuple(input.shape)}')
    if weight.ndim < 1 or weight.shape[0] != input.shape[1]:
        raise ValueError(
            f'weight must have one kernel for each of the {input.shape[1]} channels of input, '
            f'but got shape {tuple(weight.shape)}'
        )
    if bias is not None and tuple(bias.shape) not in ((input.shape[1],), tuple(input.shape[1:])):
        raise ValueError(
            f'bias must have shape ({input.shape[1]},), or {tuple(input.shape[1:])} as a map, '
            f'but got {tuple(bias.shape)}'
        )
    for name, tensor in tensors.items():
        if tensor.dtype != input.dtype:
            raise TypeError(f'{name} must have the dtype of input, {input.dtype}, but got {tensor.dtype}')
        if tensor.device != input.device:
            raise ValueError(f'{name} must be on the device of input, {input.device}, but got {tensor.device}')


def autocast(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast the arguments as ``F.conv2d`` would under an active autocast; float64 is left alone, as autocast does."""
    kind = input.device.type if isinstance(input, Tensor) else 'cpu'
    if not autocast_active(kind):
        return input, weight, bias
    dtype = autocast_dtype(kind)

    def cast(tensor: Tensor) -> Tensor:
        eligible = isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.dtype != torch.float64
        return tensor.to(dtype) if eligible else tensor

    return cast(input), cast(weight), None if bias is None else cast(bias)


def without_autocast(kind: str) -> AbstractContextManager[Any]:
    """Switches autocast off for devices of ``kind`` where it is active."""
    return torch.autocast(kind, enabled=False) if autocast_active(kind) else nullcontext()
