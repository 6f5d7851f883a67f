"""The layout ops that torch cannot see into, as ``torch.library`` ops, with fake kernels and gradients.

What torch cannot do with such an op is refused by name: second derivatives, and the transforms of ``torch.func``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import triton_layout

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


class OpenBlock(torch.autograd.Function):
    """x to its first channels as planes, its other channels and itself; backward adds the three gradients in one pass.

    The last two are views of x: an op of ``torch.library`` could not give them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) to (N, channels, H, W) contiguous in ``dtype``, (N, C - channels, H, W), (N, C, H, W)."""
        ctx.shape, ctx.channels, ctx.dtype = x.shape, channels, x.dtype
        ctx.set_materialize_grads(False)
        return torch.ops.pelk_mm.to_planes(x, channels, dtype), x[:, channels:], x.view_as(x)

    @staticmethod
    def backward(
        ctx: Any, planes: Tensor | None, passed: Tensor | None, residual: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        """The gradient of x, channels-last, in its dtype; None where none of the three has come."""
        if planes is None and passed is None and residual is None:
            return None, None, None
        grad = torch.ops.pelk_mm.open_block_backward(planes, passed, residual, ctx.shape, ctx.channels, ctx.dtype)
        return grad, None, None


def _keep_shape(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, ctx.channels, _ = inputs
    ctx.shape, ctx.dtype = input.shape, input.dtype


def _planes_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return torch.ops.pelk_mm.open_block_backward(grad, None, None, ctx.shape, ctx.channels, ctx.dtype), None, None


def _keep_rows(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    mixed, passed, weight, *_ = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(mixed, passed, weight, mean, rstd)


def _norm_gradients(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    mask = ctx.needs_input_grad[:4]
    grads = torch.ops.pelk_mm.join_norm_backward(grad, *ctx.saved_tensors, mask)
    return *(result if needed else None for result, needed in zip(grads, mask, strict=True)), None, None, None, None


def _refuse_vmap(info: Any, in_dims: Any, *args: Any) -> Any:
    raise RuntimeError('torch.vmap cannot map over this op: fold the mapped dimension into the batch')


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _refuse_second_derivatives(ctx: Any, *grads: Tensor) -> Any:
    raise RuntimeError(
        "gradients of this block's layout ops cannot be differentiated again (create_graph=True): "
        "call pelk_mm.ops.set_backend('dense')"
    )


torch.library.register_autograd('pelk_mm::to_planes', _planes_gradient, setup_context=_keep_shape)
torch.library.register_autograd('pelk_mm::join_norm', _norm_gradients, setup_context=_keep_rows)
for _name in ('open_block_backward', 'join_norm_backward'):
    torch.library.register_autograd(f'pelk_mm::{_name}', _refuse_second_derivatives, setup_context=_keep_nothing)
for _name in ('to_planes', 'join_norm'):
    torch.library.register_vmap(f'pelk_mm::{_name}', _refuse_vmap)
