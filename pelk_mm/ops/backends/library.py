"""The back-ends that torch cannot see into, as ``torch.library`` ops, with fake kernels and gradients.

``pelk_mm::shared_conv2d`` is what torch.compile, transforms and dispatch modes meet (:mod:`.opaque` says when). What
torch cannot do with such an op is refused by name: second derivatives, forward mode, and the transforms of
``torch.func``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import opaque
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
    return opaque.compute(input, weight, tuple(rows), tuple(columns), bias, BACKENDS[backend], tables)


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
    arguments = grad, input, weight, tuple(rows), tuple(columns), BACKENDS[backend], mask, tables
    grad_input, grad_weight = (
        grad.new_empty(0) if result is None else result for result in opaque.compute_gradients(*arguments)
    )
    return grad_input, grad_weight


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
    input, weight, rows, columns, bias, backend, tables = inputs
    kept = input, weight, tuple(rows), tuple(columns), bias, BACKENDS[backend], tables
    opaque.keep_for_gradients(ctx, kept, output)


def _refuse_vmap(info: Any, in_dims: Any, *args: Any) -> Any:
    raise RuntimeError(
        "torch.vmap cannot map over this convolution: fold the mapped dimension into the batch, or name backend='dense'"
    )


torch.library.register_autograd('pelk_mm::shared_conv2d', opaque.gradients, setup_context=_setup_context)
torch.library.register_autograd(
    'pelk_mm::shared_conv2d_backward', opaque.refuse_second_derivatives, setup_context=opaque.keep_nothing
)
torch.library.register_vmap('pelk_mm::shared_conv2d', _refuse_vmap)
