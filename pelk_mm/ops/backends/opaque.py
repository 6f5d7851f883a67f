"""Back-ends with gradients of their own, for autograd: as a ``torch.autograd.Function``, or as an op where torch looks.

An op of ``torch.library`` (:mod:`.library`) is what a graph, a transform or a dispatch mode has to see. A call that
nothing watches goes through the function: the op's dispatch costs more than many of the kernels take. Both have the
rules of this file, which refuse by name what they cannot do: second derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..arguments import without_autocast
from ..segments import Segments
from ..tracing import is_watched

if TYPE_CHECKING:
    from .table import Backend


def run(
    backend: Backend, input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None
) -> Tensor:
    """The convolution by a back-end that has a ``backward``; arguments as its ``forward``."""
    tables = None if backend.tables is None else backend.tables(rows, columns, input.device)
    if is_watched(input, weight, bias):
        # by torch's name: the op's file looks up the table of back-ends, whose file imports this one
        output: Tensor = torch.ops.pelk_mm.shared_conv2d.default(
            input, weight, rows, columns, bias, backend.name, tables
        )
        return output
    arguments = input, weight, rows, columns, bias, backend, tables
    if torch.is_grad_enabled() and (
        input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return SharedConv2d.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]
    return compute(*arguments)


def compute(
    input: Tensor,
    weight: Tensor,
    rows: Segments,
    columns: Segments,
    bias: Tensor | None,
    backend: Backend,
    tables: Tensor | None,
) -> Tensor:
    """A back-end's ``forward``, out of reach of autocast, which would round products within it."""
    with without_autocast(input.device.type):
        return backend.forward(input, weight, rows, columns, bias, *_if_any(tables))


def compute_gradients(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    rows: Segments,
    columns: Segments,
    backend: Backend,
    mask: Sequence[bool],
    tables: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """A back-end's ``backward``, out of reach of autocast: by input and weight, None where ``mask`` says not needed."""
    assert backend.backward is not None, backend.name
    with without_autocast(input.device.type):
        return backend.backward(grad, input, weight, rows, columns, mask[0], mask[1], *_if_any(tables))


def _if_any(tables: Tensor | None) -> tuple[Tensor, ...]:
    """The last arguments of a back-end: none where it has no tables."""
    return () if tables is None else (tables,)


def keep_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """What :func:`gradients` reads: input, weight and the back-end's tables, nothing else."""
    input, weight, ctx.rows, ctx.columns, bias, ctx.backend, tables = inputs
    ctx.save_for_backward(input, weight, *_if_any(tables))
    ctx.bias_is_map = bias is not None and bias.ndim == 3


def gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, Tensor | None, None, None]:
    """Gradients of the arguments of :func:`compute`."""
    input, weight, *rest = ctx.saved_tensors
    tables = rest[0] if rest else None
    mask = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
    grad_input = grad_weight = grad_bias = None
    if any(mask):
        if is_watched(grad, input, weight):
            both = torch.ops.pelk_mm.shared_conv2d_backward(
                grad, input, weight, ctx.rows, ctx.columns, ctx.backend.name, mask, tables
            )
        else:
            arguments = grad, input, weight, ctx.rows, ctx.columns, ctx.backend, mask, tables
            # only with create_graph=True are gradients enabled here
            both = Gradients.apply(*arguments) if torch.is_grad_enabled() else compute_gradients(*arguments)  # type: ignore[no-untyped-call]
        grad_input, grad_weight = (result if needed else None for result, needed in zip(both, mask, strict=True))
    if ctx.needs_input_grad[4]:
        # in float64: a plain sum may nearly cancel
        grad_bias = grad.sum(0 if ctx.bias_is_map else (0, 2, 3), dtype=torch.float64).to(grad.dtype)
    return grad_input, grad_weight, None, None, grad_bias, None, None


def keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
    """Of gradients, which cannot be differentiated again."""


def refuse_second_derivatives(ctx: Any, *grads: Tensor) -> Any:
    """Raise RuntimeError with what to do instead."""
    raise RuntimeError(
        "gradients of this convolution cannot be differentiated again (create_graph=True): name backend='dense'"
    )


class SharedConv2d(torch.autograd.Function):
    """:func:`compute` with its :func:`gradients`."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """(N, C, H, W)."""
        # a `setup_context` of the class would have torch inspect the signature with every call, for longer than this
        output = compute(*arguments)
        keep_for_gradients(ctx, arguments, output)
        return output

    backward = staticmethod(gradients)


class Gradients(torch.autograd.Function):
    """:func:`compute_gradients`, which refuse to be differentiated."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor | None, Tensor | None]:
        """By input and weight."""
        return compute_gradients(*arguments)

    backward = staticmethod(refuse_second_derivatives)
