"""The layout ops that torch cannot see into, as ``torch.library`` ops, with fake kernels and gradients.

What torch cannot do with such an op is refused by name: second derivatives, and the transforms of ``torch.func``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import layout_autograd, opaque, triton_layout

to_planes = torch.library.custom_op(
    'pelk_mm::to_planes', mutates_args=(), schema='(Tensor input, int channels, ScalarType dtype) -> Tensor'
)(triton_layout.to_planes)

open_block_backward = torch.library.custom_op(
    'pelk_mm::open_block_backward',
    mutates_args=(),
    schema='(Tensor? planes, Tensor? passed, Tensor? residual, SymInt[] shape, int channels, ScalarType dtype)'
    ' -> Tensor',
)(triton_layout.open_block_backward)

join_norm = torch.library.custom_op(
    'pelk_mm::join_norm',
    mutates_args=(),
    schema='(Tensor mixed, Tensor passed, Tensor weight, Tensor bias, float eps, ScalarType dtype, SymInt width,'
    ' bool statistics) -> (Tensor, Tensor, Tensor)',
)(triton_layout.join_norm)


@torch.library.custom_op(
    'pelk_mm::join_norm_backward',
    mutates_args=(),
    schema='(Tensor grad, Tensor mixed, Tensor passed, Tensor weight, Tensor mean, Tensor rstd, bool[4] mask)'
    ' -> (Tensor, Tensor, Tensor, Tensor)',
)
def join_norm_backward(
    grad: Tensor, mixed: Tensor, passed: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, mask: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`join_norm` by its tensors; an empty tensor where ``mask`` says not needed."""
    grads = triton_layout.join_norm_backward(grad, mixed, passed, weight, mean, rstd, mask)
    d_mixed, d_passed, d_weight, d_bias = (grad.new_empty(0) if result is None else result for result in grads)
    return d_mixed, d_passed, d_weight, d_bias


@to_planes.register_fake
def _(input: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    return input.new_empty((input.shape[0], channels, *input.shape[2:]), dtype=dtype)


def _channels_last(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    n, count, height, width = shape
    return like.new_empty((n, height, width, count), dtype=dtype).permute(0, 3, 1, 2)


@open_block_backward.register_fake
def _(
    planes: Tensor | None,
    passed: Tensor | None,
    residual: Tensor | None,
    shape: Sequence[int],
    channels: int,
    dtype: torch.dtype,
) -> Tensor:
    return _channels_last(next(g for g in (planes, passed, residual) if g is not None), shape, dtype)


@join_norm.register_fake
def _(
    mixed: Tensor,
    passed: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype,
    width: int,
    statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    n, _, height, width_of_map = mixed.shape
    rows = n * height * width_of_map if statistics else 0
    mean, rstd = (mixed.new_empty(rows, dtype=torch.float32) for _ in range(2))
    return mixed.new_empty((n, height, width_of_map, width), dtype=dtype), mean, rstd


@join_norm_backward.register_fake
def _(
    grad: Tensor, mixed: Tensor, passed: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, mask: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(mixed, memory_format=torch.contiguous_format) if mask[0] else grad.new_empty(0),
        _channels_last(passed, passed.shape, passed.dtype) if mask[1] else grad.new_empty(0),
        torch.empty_like(weight) if mask[2] else grad.new_empty(0),
        torch.empty_like(weight) if mask[3] else grad.new_empty(0),
    )


def _refuse_vmap(info: Any, in_dims: Any, *args: Any) -> Any:
    raise RuntimeError('torch.vmap cannot map over this op: fold the mapped dimension into the batch')


torch.library.register_autograd(
    'pelk_mm::to_planes', layout_autograd.planes_gradients, setup_context=layout_autograd.keep_shape
)
torch.library.register_autograd(
    'pelk_mm::join_norm', layout_autograd.norm_gradients, setup_context=layout_autograd.keep_rows
)
for _name in ('open_block_backward', 'join_norm_backward'):
    torch.library.register_autograd(
        f'pelk_mm::{_name}', layout_autograd.refuse_second_derivatives, setup_context=opaque.keep_nothing
    )
for _name in ('to_planes', 'join_norm'):
    torch.library.register_vmap(f'pelk_mm::{_name}', _refuse_vmap)
