"""Triton kernels whose window sums are products with 0/1 bands, for half precision on sm_90 and later.

The convolution is sum over a of V_a X T_a, with V_a the sum over the rows of segment a. Here V_a is a matrix too: its
band of ones, times rows of pixels that are staged in shared memory, on tensor cores with float32 sums, so that it is as
exact as adding the rows. Zeros meet pixels, so one that is not finite makes its program's tile NaN.
"""

from __future__ import annotations

import triton.language as tl

from .triton_kernels import kernel, multiply_add, rounded, store_shares, toeplitz


@kernel
def correlate_bands(
    x,
    taps,
    bands,
    row_table,
    bias,
    y,
    H,
    W_units,
    R,
    first_row,
    taps_origin,
    taps_length_units,
    bands_origin,
    bands_length_units,
    C,
    chunks,
    lead_units,
    row_blocks,
    column_blocks,
    xs_n,
    xs_c,
    xs_h,
    ys_n,
    ys_c,
    ys_h,
    bs_c,
    bs_p,
    HAS_BIAS: tl.constexpr,
    UNIT: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    TAIL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y[n, c, i, j] = bias + sum over row segments a, their rows r and lags l of T[a, l] x[n, c, i + r, j + l].

    A program computes BLOCK_M rows by BLOCK_N columns of one image and channel. WHOLE: that is a whole map, which is
    staged once. Otherwise each segment reads the BLOCK_M + TAIL rows that it reaches, of ``chunks`` blocks of BLOCK_K
    columns that begin ``8 lead_units`` before the program's own.
    """
    W = W_units * UNIT
    pid = tl.program_id(0)
    i0 = pid % row_blocks * BLOCK_M
    j0 = (pid // row_blocks) % column_blocks * BLOCK_N
    plane = pid // row_blocks // column_blocks
    c = (plane % C).to(tl.int64)
    n = (plane // C).to(tl.int64)
    x += (c * xs_c + n * xs_n) * UNIT
    taps_length = taps_length_units * 8
    bands_length = bands_length_units * 8
    m = tl.arange(0, BLOCK_M)
    q = tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)
    j = tl.arange(0, BLOCK_N)
    of_tail = BLOCK_M + tl.arange(0, TAIL)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    lead = lead_units * 8
    taps_here = toeplitz(taps + c * R * 8 * taps_length, taps_length, taps_origin - lead - j, k, True)
    bands_here = toeplitz(bands, bands_length, bands_origin - m, q, False)
    bands_tail = toeplitz(bands, bands_length, bands_origin - m, of_tail, False)
    chunk = tl.maximum(lead - j0, 0) // BLOCK_K  # blocks of sources off the map give nothing
    chunks = tl.minimum(chunks, tl.cdiv(W - j0 + lead, BLOCK_K))
    while chunk < chunks:
        sources = j0 - lead + chunk * BLOCK_K + k
        within = (sources >= 0) & (sources < W)
        if WHOLE:
            rows = tl.load(
                x + (q * xs_h * UNIT)[:, None] + sources[None, :], mask=(q < H)[:, None] & within[None, :], other=0.0
            )
        a = 0
        while a < R:
            first = tl.load(row_table + 2 * (first_row + a))
            size = tl.load(row_table + 2 * (first_row + a) + 1)
            tap = tl.load(taps_here + a * 8 * taps_length + chunk * BLOCK_K)
            ones = tl.load(bands_here + (first_row + a) * 8 * bands_length)
            if not WHOLE:
                row = i0 + first + q
                inside = ((row >= 0) & (row < H))[:, None] & within[None, :]
                rows = tl.load(x + (row * xs_h * UNIT)[:, None] + sources[None, :], mask=inside, other=0.0)
            window = multiply_add(ones, rows, tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32), PRECISION)
            if not WHOLE:
                tail = 0
                while tail < size - 1:
                    last = i0 + first + tail + of_tail
                    on_map = ((last >= 0) & (last < H))[:, None] & within[None, :]
                    tail_rows = tl.load(x + (last * xs_h * UNIT)[:, None] + sources[None, :], mask=on_map, other=0.0)
                    tail_ones = tl.load(bands_tail + (first_row + a) * 8 * bands_length + tail)
                    window = multiply_add(tail_ones, tail_rows, window, PRECISION)
                    tail += TAIL
            high = rounded(window, tap.dtype, PRECISION)
            total = multiply_add(high, tap, total, PRECISION)
            if size > 1:
                low = rounded(window - high.to(tl.float32), tap.dtype, PRECISION)
                total = multiply_add(low, tap, total, PRECISION)
            a += 1
        chunk += 1
    i = i0 + m
    columns = j0 + j
    inside = (i < H)[:, None] & (columns < W)[None, :]
    if HAS_BIAS:
        pointers = bias + c * bs_c + (i * W)[:, None] * bs_p + columns[None, :] * bs_p
        total += tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
    y += (c * ys_c + n * ys_n) * UNIT
    pointers = y + (i * ys_h * UNIT)[:, None] + columns[None, :]
    tl.store(pointers, rounded(total, y.dtype.element_ty, PRECISION), mask=inside)


@kernel
def band_gradient(
    x,
    g,
    bands,
    row_table,
    scale_table,
    column_table,
    shares,
    H,
    W_units,
    R,
    S,
    first_row,
    first_column,
    first_lag,
    radius,
    bands_origin,
    bands_length_units,
    C,
    chunks,
    lead_units,
    row_blocks,
    column_blocks,
    blocks,
    blocks_each,
    xs_n,
    xs_c,
    xs_h,
    gs_n,
    gs_c,
    gs_h,
    UNIT: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    TAIL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """shares[p, o, c, a, b] = part of the sum of (V_a x)[n, c, i, j + l] g[n, c, i, j] over n, i, j and l in segment b.

    A program takes ``blocks_each`` of the ``blocks`` of BLOCK_M rows of one image (part p), and the source columns at
    one offset o from each block of output columns. Every program writes its own shares: their sum is deterministic.
    """
    W = W_units * UNIT
    pid = tl.program_id(0)
    c = (pid % C).to(tl.int64)
    o = pid // C % chunks
    p = pid // C // chunks
    x += c * xs_c * UNIT
    g += c * gs_c * UNIT
    shares += pid.to(tl.int64) * R * S
    offset = o * BLOCK_K - lead_units * 8
    bands_length = bands_length_units * 8
    m = tl.arange(0, BLOCK_M)
    q = tl.arange(0, BLOCK_M)
    of_tail = BLOCK_M + tl.arange(0, TAIL)
    bands_here = toeplitz(bands, bands_length, bands_origin - m, q, True)
    bands_tail = toeplitz(bands, bands_length, bands_origin - m, of_tail, True)
    # column blocks whose sources lie off the map give nothing
    first_block = (tl.maximum(-offset - BLOCK_K, -BLOCK_N) + BLOCK_N) // BLOCK_N
    column_blocks = tl.minimum(column_blocks, tl.cdiv(tl.maximum(W - offset, 0), BLOCK_N))
    last_block = tl.minimum((p + 1) * blocks_each, blocks)
    a = 0
    while a < R:
        first = tl.load(row_table + 2 * (first_row + a))
        size = tl.load(row_table + 2 * (first_row + a) + 1)
        ones = tl.load(bands_here + (first_row + a) * 8 * bands_length)
        total = tl.zeros((BLOCK_K, BLOCK_N), dtype=tl.float32)
        block = p * blocks_each
        while block < last_block:
            n = (block // row_blocks).to(tl.int64)
            i0 = block % row_blocks * BLOCK_M
            column_block = first_block
            while column_block < column_blocks:
                columns = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
                sources = column_block * BLOCK_N + offset + tl.arange(0, BLOCK_K)
                within = (sources >= 0) & (sources < W)
                row = q if WHOLE else i0 + first + q
                inside = ((row >= 0) & (row < H))[:, None] & within[None, :]
                image = x + n * xs_n * UNIT + sources[None, :]
                rows = tl.load(image + (row * xs_h * UNIT)[:, None], mask=inside, other=0.0)
                zero = tl.zeros((BLOCK_K, BLOCK_M), dtype=tl.float32)
                window = multiply_add(tl.trans(rows), ones, zero, PRECISION)
                if not WHOLE:
                    tail = 0
                    while tail < size - 1:
                        last = i0 + first + tail + of_tail
                        on_map = ((last >= 0) & (last < H))[:, None] & within[None, :]
                        tail_rows = tl.load(image + (last * xs_h * UNIT)[:, None], mask=on_map, other=0.0)
                        tail_ones = tl.load(bands_tail + (first_row + a) * 8 * bands_length + tail)
                        window = multiply_add(tl.trans(tail_rows), tail_ones, window, PRECISION)
                        tail += TAIL
                i = i0 + m
                pointers = g + n * gs_n * UNIT + (i * gs_h * UNIT)[:, None] + columns[None, :]
                grad = tl.load(pointers, mask=(i < H)[:, None] & (columns < W)[None, :], other=0.0)
                total = multiply_add(rounded(window, grad.dtype, PRECISION), grad, total, PRECISION)
                column_block += 1
            block += 1
        if x.dtype.element_ty == tl.float16:
            total /= tl.load(scale_table + first_row + a)
        table = column_table + first_lag + offset + radius
        store_shares(shares + a * S, total, table, -offset - radius, radius - offset, first_column, S)
        a += 1
