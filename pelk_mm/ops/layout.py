"""From channels-last rows to planes and back, with the LayerNorm behind: each way in one pass over memory.

A depthwise convolution wants planes, (N, C, H, W) contiguous; norms over channels, linears and the residual stream want
channels-last rows. Stock torch goes from one to the other in a pass each for split, cast, transposition, concatenation
and norm. These ops are one kernel each, on CUDA through Triton; elsewhere, and for torch.compile, which fuses by
itself, they are the plain torch of :mod:`~pelk_mm.ops.backends.layout_reference`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..utils import compat
from .backends import layout_autograd, layout_reference, triton_layout, triton_layout_support
from .backends.choice import preference, warn_once
from .tracing import autocast_active, compiling, exporting

if compat.HAS_LIBRARY:
    from .backends import layout_library  # noqa: F401  (defines the ops)


def compute_dtype(x: Tensor) -> torch.dtype:
    """What a convolution or linear of ``x`` computes in: autocast's dtype where that is active, else that of ``x``."""
    if autocast_active(x.device.type) and x.is_floating_point() and x.dtype != torch.float64:
        return compat.autocast_dtype(x.device.type)
    return x.dtype


def refusal(x: Tensor, channels: int, convolved: int, mixed_dtype: torch.dtype | None = None) -> str | None:
    """Why the Triton kernels cannot serve a block on ``x``, or None where they do.

    A preference for another back-end (:func:`~pelk_mm.ops.set_backend`) turns them off, and one for ``'triton'`` lets
    Triton's interpreter run them on a CPU, for tests. Where they fail on a GPU, one line is logged.

    Args:
        x: (N, C, H, W), or the channels of it that pass.
        channels: C.
        convolved: How many of them become planes.
        mixed_dtype: Dtype of what is joined with the others, None for :func:`compute_dtype`.
    """
    if compiling() or exporting():
        return 'a graph is being taken, whose compiler fuses by itself'
    preferred = preference()
    if preferred not in (None, 'triton'):
        return f'the back-end {preferred!r} is preferred'
    if not x.is_cuda and preferred is None:
        return f'they run on CUDA, but the input is on {x.device}'
    dtype = compute_dtype(x)
    reason = triton_layout_support.refusal(x, channels, convolved, mixed_dtype or dtype, dtype, torch.is_grad_enabled())
    if reason is not None and x.is_cuda:
        warn_once(f'the kernels between rows and planes are passed over: {reason}')
    return reason


def to_planes(x: Tensor, channels: int) -> Tensor:
    """The first channels of an image as contiguous planes, in the dtype that a convolution computes in.

    Args:
        x: (N, C, H, W), read as it lies where it is channels-last; float32, float64, float16 or bfloat16.
        channels: g, 1 to C.

    Returns:
        (N, g, H, W), contiguous, in :func:`compute_dtype`.

    Raises:
        ValueError: Wrong shape, or ``channels`` out of range.
    """
    _check(x, channels)
    if refusal(x, x.shape[1], channels) is None:
        return layout_autograd.to_planes(x, channels, compute_dtype(x))
    return layout_reference.to_planes(x, channels, compute_dtype(x))


def open_block(x: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a block on ``x`` reads: its first channels as planes, its other channels, and itself as the residual.

    The last two are views of x. By Triton the gradients of the three are added in one pass into a channels-last tensor
    of the dtype of ``x``; they may come in any layout and dtype, or not at all.

    Args:
        x: (N, C, H, W), read as it lies where it is channels-last; float32, float64, float16 or bfloat16.
        channels: g, 1 to C.

    Returns:
        (N, g, H, W) contiguous in :func:`compute_dtype`, (N, C - g, H, W) and (N, C, H, W) in that of ``x``.

    Raises:
        ValueError: Wrong shape, or ``channels`` out of range.
    """
    _check(x, channels)
    if refusal(x, x.shape[1], channels) is None:
        return layout_autograd.OpenBlock.apply(x, channels, compute_dtype(x))
    return layout_reference.to_planes(x, channels, compute_dtype(x)), x[:, channels:], x


def join_norm(
    mixed: Tensor, passed: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5, width: int | None = None
) -> Tensor:
    """LayerNorm over all channels of an image given in two parts, as rows for a linear; differentiable in all four.

    Statistics and products are in float32 (float64 for float64) and rounded once.

    Args:
        mixed: (N, g, H, W), the first channels, read as it lies where it is contiguous.
        passed: (N, C - g, H, W), the others, read as it lies where it is channels-last or channels of such a tensor.
        weight, bias: (C,).
        eps: Added to the variance.
        width: Elements of a row, at least C: zeros stand behind the channels. None for C.

    Returns:
        (N, H, W, width), contiguous, in autocast's dtype where that is active, else in the dtype of ``passed``.

    Raises:
        ValueError: Shapes that do not fit, or ``width`` below C.
    """
    channels = weight.shape[0]
    parts = tuple(mixed.shape), tuple(passed.shape)
    if mixed.ndim != 4 or parts[1] != (parts[0][0], channels - parts[0][1], *parts[0][2:]):
        raise ValueError(f'mixed and passed must be parts of (N, {channels}, H, W), but got {parts[0]} and {parts[1]}')
    if bias.shape != weight.shape:
        raise ValueError(f'bias must have the shape of weight, {tuple(weight.shape)}, but got {tuple(bias.shape)}')
    width = channels if width is None else width
    if width < channels:
        raise ValueError(f'width must be at least the {channels} channels, but got {width}')
    dtype = compute_dtype(passed)
    if width <= triton_layout.padded(channels) and refusal(passed, channels, mixed.shape[1], mixed.dtype) is None:
        return layout_autograd.join_norm(mixed, passed, weight, bias, eps, dtype, width)
    return layout_reference.join_norm(mixed, passed, weight, bias, eps, dtype, width)


def _check(x: Tensor, channels: int) -> None:
    if x.ndim != 4 or x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(f'x must have shape (N, C, H, W) with H, W >= 1, but got {tuple(x.shape)}')
    if not 1 <= channels <= x.shape[1]:
        raise ValueError(f'channels must be 1 to {x.shape[1]}, but got {channels}')
