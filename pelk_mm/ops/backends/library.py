"""The back-ends that torch cannot see into, as ``torch.library`` ops, with fake kernels and gradients.

``pelk_mm::shared_conv2d`` keeps its input, its weight and the back-end's tables for the backward pass, nothing else.
What torch cannot do with such an op is refused by name: second derivatives, forward mode, and the transforms of
``torch.func``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments import without_autocast
from .table import BACKENDS


@torch.library.custom_op(
    'pelk_mm::shared_conv2d',
    mutates_args=(),
    schema='(Tensor input, Tensor weight, int[] rows, int[] columns, Tensor? bias, str backend, Tensor? tables=None)'
    ' -> Tensor',
)
def shared_conv2d(
    input: Tensor,
    weight: Tensor,
    rows: Sequence[int],
    columns: Sequence[int],
    bias: Tensor | None,
    backend: str,
    tables: Tensor | None = None,
) -> Tensor:
    """Depthwise cross-correlation with a kernel shared over segments, "same" zero padding, stride 1.

    Args:
        input: (N, C, H, W).
        weight: (C, 1, len(rows), len(columns)).
        rows, columns: Segments of the kernel's axes, symmetric, of odd sums.
        bias: (C,), or a map (C, H, W) added to every image, or None.
        backend: Name of a back-end that registered a ``backward``.
        tables: What that back-end's ``tables`` gives, None where it has none.

    Returns:
        (N, C, H, W), contiguous whatever the layout of ``input``.
    """
    with without_autocast(input.device.type):  # which would round products within the implementation
        return BACKENDS[backend].forward(input, weight, tuple(rows), tuple(columns), bias, *_if_any(tables))


@torch.library.custom_op(
    'pelk_mm::shared_conv2d_backward',
    mutates_args=(),
    schema='(Tensor grad, Tensor input, Tensor weight, int[] rows, int[] columns, str backend, bool[2] mask,'
    ' Tensor? tables=None) -> (Tensor, Tensor)',
)
def shared_conv2d_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    rows: Sequence[int],
    columns: Sequence[int],
    backend: str,
    mask: Sequence[bool],
    tables: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`shared_conv2d` by input and weight; an empty tensor where ``mask`` says not needed."""
    backward = BACKENDS[backend].backward
    assert backward is not None, backend  # the table runs the others without this op
    with without_autocast(input.device.type):
        grads = backward(grad, input, weight, tuple(rows), tuple(columns), mask[0], mask[1], *_if_any(tables))
    grad_input, grad_weight = (grad.new_empty(0) if result is None else result for result in grads)
    return grad_input, grad_weight


def _if_any(tables: Tensor | None) -> tuple[Tensor, ...]:
    """The last arguments of a back-end: none where it has no tables."""
    return () if tables is None else (tables,)


@shared_conv2d.register_fake
def _(
    input: Tensor,
    weight: Tensor,
    rows: Sequence[int],
    columns: Sequence[int],
    bias: Tensor | None,
    backend: str,
    tables: Tensor | None = None,
) -> Tensor:
    return torch.empty_like(input, memory_format=torch.contiguous_format)


@shared_conv2d_backward.register_fake
def _(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    rows: Sequence[int],
    columns: Sequence[int],
    backend: str,
    mask: Sequence[bool],
    tables: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(input, memory_format=torch.contiguous_format) if mask[0] else grad.new_empty(0),
        torch.empty_like(weight) if mask[1] else grad.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, ctx.rows, ctx.columns, bias, ctx.backend, tables = inputs
    ctx.save_for_backward(input, weight, *_if_any(tables))
    ctx.bias_is_map = bias is not None and bias.ndim == 3


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, Tensor | None, None, None]:
    input, weight, *tables = ctx.saved_tensors
    mask = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
    grad_input = grad_weight = grad_bias = None
    if any(mask):
        arguments = grad, input, weight, ctx.rows, ctx.columns, ctx.backend, mask, *tables
        both = torch.ops.pelk_mm.shared_conv2d_backward(*arguments)
        grad_input, grad_weight = (result if needed else None for result, needed in zip(both, mask, strict=True))
    if ctx.needs_input_grad[4]:
        # in float64: a plain sum may nearly cancel
        grad_bias = grad.sum(0 if ctx.bias_is_map else (0, 2, 3), dtype=torch.float64).to(grad.dtype)
    return grad_input, grad_weight, None, None, grad_bias, None, None


def _refuse_vmap(info: Any, in_dims: Any, *args: Any) -> Any:
    raise RuntimeError(
        "torch.vmap cannot map over this convolution: fold the mapped dimension into the batch, or name backend='dense'"
    )


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    pass


def _refuse_second_derivatives(ctx: Any, *grads: Tensor) -> Any:
    raise RuntimeError(
        "gradients of this convolution cannot be differentiated again (create_graph=True): name backend='dense'"
    )


torch.library.register_autograd('pelk_mm::shared_conv2d', _gradients, setup_context=_setup_context)
torch.library.register_autograd(
    'pelk_mm::shared_conv2d_backward', _refuse_second_derivatives, setup_context=_keep_nothing
)
torch.library.register_vmap('pelk_mm::shared_conv2d', _refuse_vmap)
