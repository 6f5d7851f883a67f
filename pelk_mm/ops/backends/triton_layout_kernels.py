"""Triton kernels between channels-last rows and planes, with the LayerNorm behind them; imported on first use.

A map of pixels lies in memory in one of two ways: as rows, (N * H * W, C) with the channels of a pixel side by side, as
linears, norms and the residual stream want it; or as planes, (N, C, H * W), as a depthwise convolution wants it. A
block of planes is loaded as (channels, pixels) and transposed within the program, so that both sides are read and
written along memory. A block of pixels belongs to one image.

Everything is computed in float32 and rounded once. Addresses come without any alignment, since a row of C channels has
none for most C: a warp reads and writes 32 neighbours, which is what the memory asks for.
"""

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from .triton_kernels import rounded


def kernel(function: Callable[..., None]) -> Any:
    """Compile a kernel for its constants and its tensors' types alone, whatever the numbers and the addresses."""
    parameters = inspect.signature(function).parameters.values()
    return triton.jit(function, do_not_specialize=[p.name for p in parameters if p.annotation is p.empty])


@triton.jit
def joined(mixed, passed, image, first, HW, G, C, passed_pitch, channel, BLOCK_P: tl.constexpr):
    """(BLOCK_P, K, 32) in float32 of ``channel`` (K, 32): those below G from planes, the others from rows.

    Zero beyond the map and C. With 32 neighbouring channels last, the compiler lays them along a warp's threads and the
    pixels along warps, so that sums over either cost little.
    """
    pixel = first + tl.arange(0, BLOCK_P)
    mixed += image * G * HW
    passed += image * HW * passed_pitch
    convolved = (channel < G)[:, :, None] & (pixel < HW)[None, None, :]
    planes = tl.load(mixed + (channel * HW)[:, :, None] + pixel[None, None, :], mask=convolved, other=0.0)
    others = ((channel >= G) & (channel < C))[None, :, :] & (pixel < HW)[:, None, None]
    offsets = (pixel * passed_pitch)[:, None, None] + (channel - G)[None, :, :]
    rows = tl.load(passed + offsets, mask=others, other=0.0)
    return tl.permute(planes, (2, 0, 1)).to(tl.float32) + rows.to(tl.float32)


@kernel
def to_planes(
    x,
    y,
    HW,
    G,
    pitch,
    pixel_blocks,
    channel_blocks,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y[n, c, p] = x[n, p, c] for c < G: the first channels of rows that lie ``pitch`` apart, as planes."""
    pid = tl.program_id(0)
    image = (pid // (channel_blocks * pixel_blocks)).to(tl.int64)
    pixel = pid // channel_blocks % pixel_blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = pid % channel_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (pixel < HW)[:, None] & (channel < G)[None, :]
    block = tl.load(x + image * HW * pitch + (pixel * pitch)[:, None] + channel[None, :], mask=inside, other=0.0)
    block = tl.trans(rounded(block.to(tl.float32), y.dtype.element_ty, PRECISION))
    inside = (channel < G)[:, None] & (pixel < HW)[None, :]
    tl.store(y + image * G * HW + (channel * HW)[:, None] + pixel[None, :], block, mask=inside)


@kernel
def open_block_gradient(
    planes,
    passed,
    residual,
    y,
    HW,
    G,
    C,
    passed_pitch,
    residual_pitch,
    pixel_blocks,
    channel_blocks,
    BLOCK_P: tl.constexpr,
    GROUPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y[n, p] = (planes[n, :, p], passed[n, p]) + residual[n, p], C channels."""
    pid = tl.program_id(0)
    image = (pid // (channel_blocks * pixel_blocks)).to(tl.int64)
    first = pid // channel_blocks % pixel_blocks * BLOCK_P
    channel = pid % channel_blocks * GROUPS * 32 + tl.arange(0, GROUPS)[:, None] * 32 + tl.arange(0, 32)[None, :]
    pixel = first + tl.arange(0, BLOCK_P)
    total = joined(planes, passed, image, first, HW, G, C, passed_pitch, channel, BLOCK_P)
    inside = (channel < C)[None, :, :] & (pixel < HW)[:, None, None]
    offsets = (pixel * residual_pitch)[:, None, None] + channel[None, :, :]
    total += tl.load(residual + image * HW * residual_pitch + offsets, mask=inside, other=0.0).to(tl.float32)
    offsets = (pixel * C)[:, None, None] + channel[None, :, :]
    tl.store(y + image * HW * C + offsets, rounded(total, y.dtype.element_ty, PRECISION), mask=inside)


@kernel
def join_norm(
    mixed,
    passed,
    weight,
    bias,
    y,
    mean,
    rstd,
    HW,
    G,
    C,
    width,
    passed_pitch,
    eps,
    pixel_blocks,
    STATISTICS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    GROUPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y = LayerNorm over the C channels of (mixed, passed), rows of ``width`` with zeros behind them.

    A program holds BLOCK_P whole rows. STATISTICS writes each row's mean and 1 / standard deviation in float32.
    """
    pid = tl.program_id(0)
    image, first = (pid // pixel_blocks).to(tl.int64), pid % pixel_blocks * BLOCK_P
    pixel = first + tl.arange(0, BLOCK_P)
    channel = tl.arange(0, GROUPS)[:, None] * 32 + tl.arange(0, 32)[None, :]
    known = channel < C
    x = joined(mixed, passed, image, first, HW, G, C, passed_pitch, channel, BLOCK_P)
    centre = tl.sum(tl.sum(x, axis=1), axis=1) / C
    x = tl.where(known[None, :, :], x - centre[:, None, None], 0.0)
    scale = tl.rsqrt(tl.sum(tl.sum(x * x, axis=1), axis=1) / C + eps)
    if STATISTICS:
        tl.store(mean + image * HW + pixel, centre, mask=pixel < HW)
        tl.store(rstd + image * HW + pixel, scale, mask=pixel < HW)
    w = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32)
    b = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)
    x = x * scale[:, None, None] * w[None, :, :] + b[None, :, :]
    kept = (channel < width)[None, :, :] & (pixel < HW)[:, None, None]
    offsets = (pixel * width)[:, None, None] + channel[None, :, :]
    tl.store(y + image * HW * width + offsets, rounded(x, y.dtype.element_ty, PRECISION), mask=kept)


@kernel
def join_norm_gradients(
    g,
    mixed,
    passed,
    weight,
    mean,
    rstd,
    d_mixed,
    d_passed,
    shares,
    HW,
    G,
    C,
    g_pitch,
    passed_pitch,
    pixel_blocks,
    PASSED: tl.constexpr,
    PARAMETERS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    GROUPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of :func:`join_norm`, g being that of y: dx = rstd (w g - mean(w g) - x^ mean(w g x^)), means over C.

    dx is written as planes and, with PASSED, contiguous rows of the other channels. With PARAMETERS each program writes
    its sums of g x^ and g over its pixels into ``shares``, (programs, 2, C) in float32.
    """
    pid = tl.program_id(0)
    image, first = (pid // pixel_blocks).to(tl.int64), pid % pixel_blocks * BLOCK_P
    pixel = first + tl.arange(0, BLOCK_P)
    channel = tl.arange(0, GROUPS)[:, None] * 32 + tl.arange(0, 32)[None, :]
    known = channel < C
    inside = known[None, :, :] & (pixel < HW)[:, None, None]
    x = joined(mixed, passed, image, first, HW, G, C, passed_pitch, channel, BLOCK_P)
    offsets = (pixel * g_pitch)[:, None, None] + channel[None, :, :]
    grad = tl.load(g + image * HW * g_pitch + offsets, mask=inside, other=0.0).to(tl.float32)
    centre = tl.load(mean + image * HW + pixel, mask=pixel < HW, other=0.0)
    scale = tl.load(rstd + image * HW + pixel, mask=pixel < HW, other=0.0)
    x = tl.where(known[None, :, :], (x - centre[:, None, None]) * scale[:, None, None], 0.0)
    if PARAMETERS:
        shares += pid.to(tl.int64) * 2 * C
        tl.store(shares + channel, tl.sum(grad * x, axis=0), mask=known)
        tl.store(shares + C + channel, tl.sum(grad, axis=0), mask=known)
    grad *= tl.load(weight + channel, mask=known, other=0.0).to(tl.float32)[None, :, :]
    along = tl.sum(tl.sum(grad * x, axis=1), axis=1) / C
    level = tl.sum(tl.sum(grad, axis=1), axis=1) / C
    grad = (grad - level[:, None, None] - x * along[:, None, None]) * scale[:, None, None]
    planes = tl.permute(rounded(grad, d_mixed.dtype.element_ty, PRECISION), (1, 2, 0))
    convolved = (channel < G)[:, :, None] & (pixel < HW)[None, None, :]
    offsets = (channel * HW)[:, :, None] + pixel[None, None, :]
    tl.store(d_mixed + image * G * HW + offsets, planes, mask=convolved)
    if PASSED:
        rows = rounded(grad, d_passed.dtype.element_ty, PRECISION)
        offsets = (pixel * (C - G))[:, None, None] + (channel - G)[None, :, :]
        tl.store(d_passed + image * HW * (C - G) + offsets, rows, mask=inside & (channel >= G)[None, :, :])
