"""The layout kernels for autograd: as ``torch.autograd.Function``, or as ops where torch looks, as in :mod:`.opaque`.

What neither can do is refused by name: second derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..tracing import is_watched
from . import triton_layout


def to_planes(x: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """(N, C, H, W) to its first channels, contiguous, in ``dtype``."""
    if is_watched(x):
        return torch.ops.pelk_mm.to_planes(x, channels, dtype)  # type: ignore[no-any-return]
    if torch.is_grad_enabled() and x.requires_grad:
        return ToPlanes.apply(x, channels, dtype)  # type: ignore[no-any-return, no-untyped-call]
    return triton_layout.to_planes(x, channels, dtype)


def join_norm(
    mixed: Tensor,
    passed: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype,
    width: int,
) -> Tensor:
    """LayerNorm over all channels of (N, g, H, W) and (N, C - g, H, W) as (N, H, W, width) rows in ``dtype``."""
    tensors = mixed, passed, weight, bias
    needs_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    arguments = *tensors, eps, dtype, width, needs_grad
    if is_watched(*tensors):
        return torch.ops.pelk_mm.join_norm(*arguments)[0]  # type: ignore[no-any-return]
    if needs_grad:
        return JoinNorm.apply(*arguments)[0]  # type: ignore[no-any-return, no-untyped-call]
    return triton_layout.join_norm(*arguments)[0]


def keep_shape(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """What :func:`planes_gradients` reads."""
    input, ctx.channels, _ = inputs
    ctx.shape, ctx.dtype = input.shape, input.dtype


def planes_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    """Gradients of the arguments of :func:`to_planes`."""
    return _open_block_gradient(ctx, grad, None, None), None, None


def _open_block_gradient(ctx: Any, planes: Tensor | None, passed: Tensor | None, residual: Tensor | None) -> Tensor:
    arguments = planes, passed, residual, ctx.shape, ctx.channels, ctx.dtype
    if is_watched(planes, passed, residual):
        return torch.ops.pelk_mm.open_block_backward(*arguments)  # type: ignore[no-any-return]
    if torch.is_grad_enabled():  # with create_graph=True
        return OpenBlockGradient.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]
    return triton_layout.open_block_backward(*arguments)


def keep_rows(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    """What :func:`norm_gradients` reads."""
    mixed, passed, weight, *_ = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(mixed, passed, weight, mean, rstd)


def norm_gradients(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    """Gradients of the arguments of the op ``join_norm``."""
    mask = ctx.needs_input_grad[:4]
    tensors = grad, *ctx.saved_tensors  # read once: a checkpoint recomputes them
    arguments = *tensors, mask
    if is_watched(*tensors):
        grads = torch.ops.pelk_mm.join_norm_backward(*arguments)
    elif torch.is_grad_enabled():  # with create_graph=True
        grads = JoinNormGradients.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        grads = triton_layout.join_norm_backward(*arguments)
    return *(result if needed else None for result, needed in zip(grads, mask, strict=True)), None, None, None, None


def refuse_second_derivatives(ctx: Any, *grads: Tensor) -> Any:
    """Raise RuntimeError with what to do instead."""
    raise RuntimeError(
        "gradients of this block's layout ops cannot be differentiated again (create_graph=True): "
        "call pelk_mm.ops.set_backend('dense')"
    )


class ToPlanes(torch.autograd.Function):
    """The kernel ``to_planes`` with its gradient."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """(N, channels, H, W)."""
        keep_shape(ctx, arguments, arguments[0])
        return triton_layout.to_planes(*arguments)

    backward = staticmethod(planes_gradients)


class OpenBlock(torch.autograd.Function):
    """x to its first channels as planes, its other channels and itself; backward adds the three gradients in one pass.

    The last two are views of x: an op of ``torch.library`` could not give them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) to (N, channels, H, W) contiguous in ``dtype``, (N, C - channels, H, W), (N, C, H, W)."""
        keep_shape(ctx, (x, channels, dtype), x)
        ctx.set_materialize_grads(False)
        return to_planes(x, channels, dtype), x[:, channels:], x.view_as(x)

    @staticmethod
    def backward(
        ctx: Any, planes: Tensor | None, passed: Tensor | None, residual: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        """The gradient of x, channels-last, in its dtype; None where none of the three has come."""
        if planes is None and passed is None and residual is None:
            return None, None, None
        return _open_block_gradient(ctx, planes, passed, residual), None, None


class OpenBlockGradient(torch.autograd.Function):
    """The kernel behind the gradients of both, which refuse to be differentiated."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """(N, C, H, W)."""
        return triton_layout.open_block_backward(*arguments)

    backward = staticmethod(refuse_second_derivatives)


class JoinNorm(torch.autograd.Function):
    """The kernel ``join_norm`` with its gradients."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, and the mean and 1 / standard deviation of each."""
        output = triton_layout.join_norm(*arguments)
        keep_rows(ctx, arguments, output)
        return output

    backward = staticmethod(norm_gradients)


class JoinNormGradients(torch.autograd.Function):
    """The kernel ``join_norm_backward``, which refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor | None, ...]:
        """By mixed, passed, weight and bias."""
        return triton_layout.join_norm_backward(*arguments)

    backward = staticmethod(refuse_second_derivatives)
