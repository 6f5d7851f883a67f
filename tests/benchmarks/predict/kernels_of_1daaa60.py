"""The kernels of commit 1daaa60, whose instructions were counted by hand: what the model is checked with."""

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

#: Names of the arguments that are tensors; of the others, those without an annotation are numbers.
TENSORS = {'x', 'g', 'y', 'weight', 'dense', 'bias', 'sums', 'shares', 'row_table', 'scale_table', 'column_table'}


def kernel(function: Callable[..., None]) -> Any:
    """Compile a kernel for its constants and its tensors' types alone, whatever the numbers."""
    parameters = inspect.signature(function).parameters.values()
    numbers = [p.name for p in parameters if p.annotation is p.empty and p.name not in TENSORS]
    return triton.jit(function, do_not_specialize=numbers)


@triton.jit
def multiply_add(a, b, total, PRECISION: tl.constexpr):
    """total + a @ b in float32. PRECISION is that of ``tl.dot``, or 'interpreted': there bfloat16 has no products."""
    if PRECISION == 'interpreted':
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def rounded(value, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    """float32 to DTYPE, to nearest even. The interpreter cuts bfloat16 off instead: there it is rounded beforehand."""
    if PRECISION == 'interpreted' and tl.bfloat16 == DTYPE:
        bits = value.to(tl.int32, bitcast=True)
        value = ((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536).to(tl.float32, bitcast=True)
    return value.to(DTYPE)


@kernel
def row_sums(
    x,
    sums,
    H,
    W_units,
    C,
    row_blocks,
    xs_n,
    xs_c,
    xs_h,
    UNIT: tl.constexpr,
    SUM_ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """sums[n, c, t, j] = sum of x[n, c, i, j] over SUM_ROWS rows i that end with row t, in float32.

    ``sums`` is contiguous, (N, C, H + SUM_ROWS - 1, W). A program computes BLOCK_M rows of one image and channel.
    """
    W = W_units * UNIT
    rows = H + SUM_ROWS - 1
    pid = tl.program_id(0)
    t = pid % row_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    plane = (pid // row_blocks).to(tl.int64)
    x += (plane // C * xs_n + plane % C * xs_c) * UNIT
    sums += plane * rows * W
    first = 0
    while first < W:
        columns = first + tl.arange(0, BLOCK_N)
        total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for r in range(SUM_ROWS):
            row = t - r
            inside = (row >= 0) & (row < H)
            pointers = x + (row * xs_h * UNIT)[:, None] + columns[None, :]
            total += tl.load(pointers, mask=inside[:, None] & (columns < W)[None, :], other=0.0).to(tl.float32)
        inside = (t < rows)[:, None] & (columns < W)[None, :]
        tl.store(sums + (t * W)[:, None] + columns[None, :], total, mask=inside)
        first += BLOCK_N


@kernel
def correlate_rows(
    x,
    sums,
    weight,
    row_table,
    scale_table,
    column_table,
    bias,
    y,
    lines,
    H,
    W_units,
    R,
    S,
    chunks,
    lead_units,
    radius,
    line_blocks,
    column_blocks,
    xs_n,
    xs_c,
    xs_h,
    ss_n,
    ys_n,
    ys_c,
    ys_h,
    bs_c,
    bs_p,
    HAS_BIAS: tl.constexpr,
    UNIT: tl.constexpr,
    SUM_ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y[n, c, i, j] = bias + sum over row segments a, their rows r and lags l of T[a, l] x[n, c, i + r, j + l].

    A program computes BLOCK_M rows, of one image after another, by BLOCK_N columns of one channel, from ``chunks``
    blocks of BLOCK_K source columns that begin ``lead_units`` before its own first column.
    """
    W = W_units * UNIT
    pid = tl.program_id(0)
    line = pid % line_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    first = (pid // line_blocks) % column_blocks * BLOCK_N
    c = (pid // line_blocks // column_blocks).to(tl.int64)
    n = (line // H).to(tl.int64)
    i = line % H
    columns = first + tl.arange(0, BLOCK_N)
    x += c * xs_c * UNIT
    sums += c * (H + SUM_ROWS - 1) * W
    weight += c * R * S
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    chunk = 0
    while chunk < chunks:
        sources = first - lead_units * UNIT + chunk * BLOCK_K + tl.arange(0, BLOCK_K)
        within = (sources >= 0) & (sources < W)
        lag = sources[:, None] - columns[None, :] + radius
        in_band = (lag >= 0) & (lag <= 2 * radius) & within[:, None]
        segment = tl.load(column_table + lag, mask=in_band, other=-1)
        a = 0
        while a < R:
            row = i + tl.load(row_table + 2 * a)
            size = tl.load(row_table + 2 * a + 1)
            window = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
            if SUM_ROWS > 0:
                while size >= SUM_ROWS:
                    top = row + SUM_ROWS - 1
                    inside = (line < lines) & (top >= 0) & (top < H + SUM_ROWS - 1)
                    offsets = (n * ss_n + top * W_units) * UNIT
                    pointers = sums + offsets[:, None] + sources[None, :]
                    window += tl.load(pointers, mask=inside[:, None] & within[None, :], other=0.0)
                    row += SUM_ROWS
                    size -= SUM_ROWS
            while size > 0:
                inside = (line < lines) & (row >= 0) & (row < H)
                offsets = (n * xs_n + row * xs_h) * UNIT
                pointers = x + offsets[:, None] + sources[None, :]
                window += tl.load(pointers, mask=inside[:, None] & within[None, :], other=0.0).to(tl.float32)
                row += 1
                size -= 1
            taps = tl.load(weight + a * S + segment, mask=segment >= 0, other=0.0)
            if x.dtype.element_ty == tl.float16:
                scale = tl.load(scale_table + a)
                window *= scale
                taps = (taps.to(tl.float32) / scale).to(taps.dtype)
            high = rounded(window, taps.dtype, PRECISION)
            total = multiply_add(high, taps, total, PRECISION)
            if x.dtype.element_ty != tl.float32:
                if tl.load(row_table + 2 * a + 1) > 1:
                    low = rounded(window - high.to(tl.float32), taps.dtype, PRECISION)
                    total = multiply_add(low, taps, total, PRECISION)
            a += 1
        chunk += 1
    inside = (line < lines)[:, None] & (columns < W)[None, :]
    if HAS_BIAS:
        pointers = bias + c * bs_c + (i * W)[:, None] * bs_p + columns[None, :] * bs_p
        total += tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
    offsets = (n * ys_n + i * ys_h) * UNIT
    tl.store(
        y + c * ys_c * UNIT + offsets[:, None] + columns[None, :],
        rounded(total, y.dtype.element_ty, PRECISION),
        mask=inside,
    )


@kernel
def weight_gradient(
    x,
    sums,
    g,
    row_table,
    scale_table,
    column_table,
    shares,
    lines,
    H,
    W_units,
    R,
    S,
    C,
    chunks,
    lead_units,
    radius,
    line_blocks,
    column_blocks,
    xs_n,
    xs_c,
    xs_h,
    ss_n,
    gs_n,
    gs_c,
    gs_h,
    UNIT: tl.constexpr,
    SUM_ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """shares[p, o, c, a, b] = part of the sum of (V_a x)[n, c, i, j + l] g[n, c, i, j] over n, i, j and l in segment b.

    A program takes ``line_blocks`` blocks of BLOCK_M rows (part p) and the source columns at one offset o from each
    block of output columns. Every program writes its own shares: their sum is deterministic.
    """
    W = W_units * UNIT
    pid = tl.program_id(0)
    c = (pid % C).to(tl.int64)
    o = pid // C % chunks
    p = pid // C // chunks
    x += c * xs_c * UNIT
    sums += c * (H + SUM_ROWS - 1) * W
    g += c * gs_c * UNIT
    shares += pid.to(tl.int64) * R * S
    offset = o * BLOCK_K - lead_units * UNIT
    lag = offset + tl.arange(0, BLOCK_K)[:, None] - tl.arange(0, BLOCK_N)[None, :] + radius
    segment = tl.load(column_table + lag, mask=(lag >= 0) & (lag <= 2 * radius), other=-1)
    a = 0
    while a < R:
        start = tl.load(row_table + 2 * a)
        total = tl.zeros((BLOCK_K, BLOCK_N), dtype=tl.float32)
        block = 0
        while block < line_blocks:
            line = (p * line_blocks + block) * BLOCK_M + tl.arange(0, BLOCK_M)
            n = (line // H).to(tl.int64)
            i = line % H
            column_block = 0
            while column_block < column_blocks:
                columns = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
                sources = column_block * BLOCK_N + offset + tl.arange(0, BLOCK_K)
                within = (sources >= 0) & (sources < W)
                window = tl.zeros((BLOCK_K, BLOCK_M), dtype=tl.float32)
                row = i + start
                size = tl.load(row_table + 2 * a + 1)
                if SUM_ROWS > 0:
                    while size >= SUM_ROWS:
                        top = row + SUM_ROWS - 1
                        inside = (line < lines) & (top >= 0) & (top < H + SUM_ROWS - 1)
                        offsets = (n * ss_n + top * W_units) * UNIT
                        pointers = sums + offsets[None, :] + sources[:, None]
                        window += tl.load(pointers, mask=within[:, None] & inside[None, :], other=0.0)
                        row += SUM_ROWS
                        size -= SUM_ROWS
                while size > 0:
                    inside = (line < lines) & (row >= 0) & (row < H)
                    offsets = (n * xs_n + row * xs_h) * UNIT
                    pointers = x + offsets[None, :] + sources[:, None]
                    window += tl.load(pointers, mask=within[:, None] & inside[None, :], other=0.0).to(tl.float32)
                    row += 1
                    size -= 1
                if x.dtype.element_ty == tl.float16:
                    window *= tl.load(scale_table + a)
                offsets = (n * gs_n + i * gs_h) * UNIT
                inside = (line < lines)[:, None] & (columns < W)[None, :]
                grad = tl.load(g + offsets[:, None] + columns[None, :], mask=inside, other=0.0)
                total = multiply_add(rounded(window, grad.dtype, PRECISION), grad, total, PRECISION)
                column_block += 1
            block += 1
        if x.dtype.element_ty == tl.float16:
            total /= tl.load(scale_table + a)
        b = 0
        while b < S:
            tl.store(shares + a * S + b, tl.sum(tl.where(segment == b, total, 0.0)))
            b += 1
        a += 1
