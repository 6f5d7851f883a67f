"""Where the layout kernels can run: tried once for each kind of call, and compared with float64, before they serve."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..tracing import transform_refusal
from . import layout_reference, triton_layout
from .triton_start import interpreting
from .triton_support import DTYPES, installation_refusal, settled


def refusal(
    input: Tensor, channels: int, convolved: int, mixed_dtype: torch.dtype, dtype: torch.dtype, needs_grad: bool
) -> str | None:
    """Why the kernels cannot serve a block, or None where they can.

    Args:
        input: (N, any, H, W), in the dtype of the rows.
        channels: C of the block.
        convolved: g.
        mixed_dtype: Of what is joined with the rows that pass.
        dtype: What planes and rows are computed in.
        needs_grad: Whether the backward pass will run.
    """
    for name, kind in (('rows', input.dtype), ('planes', mixed_dtype), ('output', dtype)):
        if kind not in DTYPES:
            return f'they compute float32, float16 and bfloat16, but the {name} are {kind}'
    device = input.device
    if device.type not in ('cpu', 'cuda') or (device.type == 'cpu' and not interpreting()):
        return f'they need a CUDA tensor, but the input is on {device}'
    block = triton_layout.norm_block(channels)
    if block is None:
        return f'they hold rows of at most {max(triton_layout.NORM_TILES)} channels, but there are {channels}'
    if triton_layout.padded(channels) * input.shape[2] * input.shape[3] >= triton_layout.MOST_ELEMENTS:
        return f'a map of one image must hold fewer than {triton_layout.MOST_ELEMENTS} elements'
    setting = device, input.dtype, mixed_dtype, dtype, block, convolved < channels, needs_grad
    return (
        transform_refusal()
        or installation_refusal(device.type, device.index, dtype)
        or settled(('layout', *setting), partial(_try, *setting))
    )


def _try(
    device: torch.device,
    rows: torch.dtype,
    planes: torch.dtype,
    dtype: torch.dtype,
    block: int,
    some_pass: bool,
    needs_grad: bool,
) -> str | None:
    """Run every kernel once on a small problem and compare: what is missing or broken shows only when they run."""
    with torch.inference_mode(False), torch.no_grad():
        worst = _errors(device, rows, planes, dtype, block - 8, some_pass, needs_grad)
    for name, (error, kind) in worst.items():
        if not error <= DTYPES[kind]:
            return f'a trial of {name} is wrong by {error:.0e} of the largest value'
    return None


def _errors(
    device: torch.device,
    rows: torch.dtype,
    planes: torch.dtype,
    dtype: torch.dtype,
    channels: int,
    some_pass: bool,
    needs_grad: bool,
) -> dict[str, tuple[float, torch.dtype]]:
    """By what was computed, the largest error over the largest value against float64, and the dtype."""
    generator = torch.Generator().manual_seed(0)
    g = channels // 3 if some_pass else channels

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    x = draw(2, channels, 3, 5, dtype=rows).contiguous(memory_format=torch.channels_last)
    mixed, passed = draw(2, g, 3, 5, dtype=planes), x[:, g:]
    weight, bias = draw(channels), draw(channels)
    grad = draw(2, 3, 5, channels + 3, dtype=dtype)
    y, mean, rstd = triton_layout.join_norm(mixed, passed, weight, bias, 1e-6, dtype, channels + 3, needs_grad)
    found = {'to_planes': triton_layout.to_planes(x, g, dtype), 'join_norm': y}
    exact = {'to_planes': layout_reference.to_planes(x, g, torch.float64)}
    with torch.enable_grad():
        leaves = a, b, c, d = tuple(t.double().requires_grad_() for t in (mixed, passed, weight, bias))
        exact['join_norm'] = layout_reference.join_norm(a, b, c, d, 1e-6, torch.float64, channels + 3)
        if needs_grad:
            names = ('d_mixed', 'd_passed', 'd_weight', 'd_bias')
            arguments = grad, mixed, passed, weight, mean, rstd
            triton_layout.join_norm_backward(
                *arguments, (True, True, False, False)
            )  # of a frozen norm: it must compile
            grads = triton_layout.join_norm_backward(*arguments, (True,) * 4)
            found |= {name: value for name, value in zip(names, grads, strict=True) if value is not None}
            exact |= zip(names, torch.autograd.grad(exact['join_norm'], leaves, grad.double()), strict=True)
            parts = draw(2, g, 3, 5, dtype=dtype), found['d_passed'], x
            found['open_block'] = triton_layout.open_block_backward(*parts, x.shape, g, rows)
            exact['open_block'] = torch.cat([part.double() for part in parts[:2]], 1) + x.double()
    return {
        name: (float((found[name].double() - value).abs().max() / value.abs().max()), found[name].dtype)
        for name, value in exact.items()
        if value.numel()
    }
