"""Triton kernels of the ``triton`` back-end; imported on first use, since Triton is optional.

With V_a the vertical window sum over row segment a, a shared convolution is ``Y = sum_a (V_a X) T_a``: T_a is the
banded Toeplitz matrix of row a of the parameters, repeated over their column segments. V_a X costs additions alone, and
the products run on tensor cores, one for each row segment instead of one for each row of the kernel. On small maps all
taps of a channel are one matrix instead, ``Y = X M`` with a row for each image. The weight gradient is the transposed
product ``(V_a X)^T G``, summed along the diagonals of each column segment.

Window sums accumulate in float32. In the convolution, sums of several half-precision rows are multiplied in two parts,
what a half type holds of them and the rest, so that they are not rounded before the product. In float16 they are
multiplied by a power of two, which is exact, so that a sum does not overflow where the convolution itself does not; the
taps carry the inverse. Where segments are long, sums of SUM_ROWS rows are computed once and read instead of rows.

Segments are tables in memory, so that one binary serves every grid and kernel size. Loops with bounds known at run time
are ``while`` loops: Triton's interpreter cannot count ``range`` over them with NumPy 2.4. What such a loop changes is a
scalar: a vector that a loop changes takes another layout, through shared memory, in each turn. Widths and strides come
in units of UNIT elements, which tells the compiler how far addresses are aligned; it learns nothing else of the
numbers, so that the binaries are those of the constants alone.

Bands and taps are Toeplitz matrices, read 16 bytes at a time from rows that are kept in eight copies, each shifted by
one element more: copy s holds row[l + s - origin] at l. The numbers (k, j) = row[k - j] then are eight neighbours in k
each, at ``(b % 8) * length + b // 8 * 8 + k`` for b = origin - j.
"""

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

#: Names of the arguments that are tensors; of the others, those without an annotation are numbers.
TABLES = {'row_table', 'scale_table', 'column_table', 'bands'}
TENSORS = {'x', 'g', 'y', 'weight', 'taps', 'dense', 'bias', 'sums', 'shares', *TABLES}


#: How many column segments of the weight gradient are summed at once, over at most how many diagonals of a product.
SEGMENTS, MOST_DIAGONALS = tl.constexpr(16), tl.constexpr(64)


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
    else:
        return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def rounded(value, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    """float32 to DTYPE, to nearest even. The interpreter cuts bfloat16 off instead: there it is rounded beforehand."""
    if PRECISION == 'interpreted' and DTYPE == tl.bfloat16:
        bits = value.to(tl.int32, bitcast=True)
        value = ((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536).to(tl.float32, bitcast=True)
    return value.to(DTYPE)


@kernel
def shift_taps(
    weight,
    scale_table,
    column_table,
    taps,
    R,
    S,
    first_row,
    first_column,
    first_lag,
    radius,
    origin,
    length_units,
    BLOCK: tl.constexpr,
):
    """taps[c, a, s, l] = weight[c, a, segment of lag l + s - origin], zero off the kernel; in float16 over the scale.

    ``taps`` is (C, R, 8, 8 length_units). A program fills the eight copies of one channel and row segment.
    """
    pid = tl.program_id(0)
    length = length_units * 8
    a = pid % R
    weight += pid.to(tl.int64) * S
    taps += pid.to(tl.int64) * 8 * length
    scale = tl.load(scale_table + first_row + a)
    start = 0
    while start < 8 * length:
        element = start + tl.arange(0, BLOCK)
        lag = element % length + element // length - origin + radius
        in_band = (lag >= 0) & (lag <= 2 * radius)
        segment = tl.load(column_table + first_lag + lag, mask=in_band, other=0) - first_column
        value = tl.load(weight + segment, mask=in_band, other=0.0)
        if weight.dtype.element_ty == tl.float16:
            value = (value.to(tl.float32) / scale).to(value.dtype)
        tl.store(taps + element, value, mask=element < 8 * length)
        start += BLOCK


@triton.jit
def toeplitz(rows, length, b, along, ALONG_FIRST: tl.constexpr):
    """Pointers to row[along - (origin - b)] of rows in eight copies: (along, b) if ALONG_FIRST, else (b, along)."""
    base = rows + (b & 7) * length + (b >> 3) * 8
    if ALONG_FIRST:
        return base[None, :] + along[:, None]
    else:
        return base[:, None] + along[None, :]


@triton.jit
def rows_of_segment(row_table, a, H):
    """First row of segment a, and how many: the part of it that reaches from a row of the map to another."""
    first = tl.load(row_table + 2 * a)
    start = tl.maximum(first, 1 - H)
    return start, tl.minimum(first + tl.load(row_table + 2 * a + 1), H) - start


@triton.jit
def diagonal_sums(products, column_table, first, last, segments):
    """Sums of ``products`` (sources, columns) over the lags of each of SEGMENTS column segments.

    Products of one lag lie on one diagonal: source minus column is the same. ``column_table`` has the segments of
    diagonals, from ``first`` to ``last`` of them.
    """
    ROWS: tl.constexpr = products.shape[0]
    COLUMNS: tl.constexpr = products.shape[1]
    DIAGONALS: tl.constexpr = min(ROWS + COLUMNS, MOST_DIAGONALS)
    share = tl.zeros((SEGMENTS,), dtype=tl.float32)
    start = 1 - COLUMNS
    while start < ROWS:
        diagonal = start + tl.arange(0, DIAGONALS)
        segment = tl.load(column_table + diagonal, mask=(diagonal >= first) & (diagonal <= last), other=-1)
        source = diagonal[:, None] + tl.arange(0, COLUMNS)[None, :]
        on_tile = (source >= 0) & (source < ROWS)
        of_source = tl.gather(products, tl.where(on_tile, source, 0), 0)
        of_lag = tl.sum(tl.where(on_tile, of_source, 0.0), axis=1)
        share += tl.sum(tl.where(segment[None, :] == segments[:, None], of_lag[None, :], 0.0), axis=1)
        start += DIAGONALS
    return share


@triton.jit
def store_shares(shares, products, column_table, first, last, first_column, S):
    """Store the :func:`diagonal_sums` of ``S`` column segments, from ``first_column`` on, as ``shares``."""
    first_b = 0
    while first_b < S:
        b = first_b + tl.arange(0, SEGMENTS)
        share = diagonal_sums(products, column_table, first, last, b + first_column)
        tl.store(shares + b, share, mask=b < S)
        first_b += SEGMENTS


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
        for r in tl.static_range(SUM_ROWS):
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
    taps,
    row_table,
    scale_table,
    bias,
    y,
    lines,
    H,
    W_units,
    R,
    first_row,
    taps_origin,
    taps_length_units,
    chunks,
    lead_units,
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

    The tables are those of the whole kernel. Of them ``R`` row segments from ``first_row`` on reach across the map.

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
    taps_length = taps_length_units * 8
    here = i[:, None] + tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.int32)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    lead = lead_units * UNIT
    b = taps_origin - lead - tl.arange(0, BLOCK_N)
    taps_here = toeplitz(taps + c * R * 8 * taps_length, taps_length, b, tl.arange(0, BLOCK_K), True)
    chunk = tl.maximum(lead - first, 0) // BLOCK_K  # blocks of sources off the map give nothing
    chunks = tl.minimum(chunks, tl.cdiv(W - first + lead, BLOCK_K))
    while chunk < chunks:
        sources = first - lead + chunk * BLOCK_K + tl.arange(0, BLOCK_K)
        within = (sources >= 0) & (sources < W)
        valid = (line < lines)[:, None] & within[None, :]
        rows = x + ((n * xs_n + i * xs_h) * UNIT)[:, None] + sources[None, :]
        row_sums = sums + ((n * ss_n + i * W_units) * UNIT)[:, None] + sources[None, :]
        a = 0
        while a < R:
            r, size = rows_of_segment(row_table, first_row + a, H)
            several = size > 1
            window = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
            if SUM_ROWS > 0:
                while size >= SUM_ROWS:
                    r += SUM_ROWS
                    inside = valid & (here + r > 0) & (here + r < H + SUM_ROWS)
                    window += tl.load(row_sums + (r - 1) * W_units * UNIT, mask=inside, other=0.0)
                    size -= SUM_ROWS
            while size > 0:
                inside = valid & (here + r >= 0) & (here + r < H)
                window += tl.load(rows + r * xs_h * UNIT, mask=inside, other=0.0).to(tl.float32)
                r += 1
                size -= 1
            if x.dtype.element_ty == tl.float16:
                window *= tl.load(scale_table + first_row + a)
            tap = tl.load(taps_here + a * 8 * taps_length + chunk * BLOCK_K)
            high = rounded(window, tap.dtype, PRECISION)
            total = multiply_add(high, tap, total, PRECISION)
            if x.dtype.element_ty != tl.float32:
                if several:
                    low = rounded(window - high.to(tl.float32), tap.dtype, PRECISION)
                    total = multiply_add(low, tap, total, PRECISION)
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
def correlate_maps(
    x,
    dense,
    bias,
    y,
    images,
    H,
    W,
    P_units,
    kh,
    kw,
    image_blocks,
    pixel_blocks,
    xs_n,
    xs_c,
    ys_n,
    ys_c,
    bs_c,
    bs_p,
    HAS_BIAS: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y[n, c, p] = bias + sum over source pixels q of dense[c, q - p] x[n, c, q], q - p in rows and columns.

    ``dense`` is (C, kh, kw). A program computes BLOCK_M images by BLOCK_N pixels of one channel; the pixels of an image
    lie one after another.
    """
    P = P_units * UNIT
    pid = tl.program_id(0)
    image = pid % image_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    pixel = (pid // image_blocks) % pixel_blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    c = (pid // image_blocks // pixel_blocks).to(tl.int64)
    pixel_row = pixel // W
    pixel_column = pixel % W
    # taps lie at (row of q - row of p) * kw + column of q - column of p, from the kernel's centre on
    target = pixel_row * kw + pixel_column - (kh // 2) * kw - kw // 2
    dense += c * kh * kw
    x_images = x + c * xs_c * UNIT + image.to(tl.int64) * xs_n * UNIT
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    start = 0
    while start < P:
        source = start + tl.arange(0, BLOCK_K)
        row = (source // W)[:, None] - pixel_row[None, :] + kh // 2
        column = (source % W)[:, None] - pixel_column[None, :] + kw // 2
        on_kernel = (row >= 0) & (row < kh) & (column >= 0) & (column < kw) & (source < P)[:, None]
        tap = (source // W * kw + source % W)[:, None] - target[None, :]
        taps = tl.load(dense + tap, mask=on_kernel, other=0.0)
        inside = (image < images)[:, None] & (source < P)[None, :]
        tile = tl.load(x_images[:, None] + source[None, :], mask=inside, other=0.0)
        total = multiply_add(tile, taps, total, PRECISION)
        start += BLOCK_K
    inside = (image < images)[:, None] & (pixel < P)[None, :]
    if HAS_BIAS:
        values = tl.load(bias + c * bs_c + pixel * bs_p, mask=pixel < P, other=0.0)
        total += values.to(tl.float32)[None, :]
    pointers = y + c * ys_c * UNIT + image.to(tl.int64)[:, None] * ys_n * UNIT + pixel[None, :]
    tl.store(pointers, rounded(total, y.dtype.element_ty, PRECISION), mask=inside)


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
    first_row,
    first_column,
    first_lag,
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
    # column blocks whose sources lie off the map give nothing
    first_block = (tl.maximum(-offset - BLOCK_K, -BLOCK_N) + BLOCK_N) // BLOCK_N
    column_blocks = tl.minimum(column_blocks, tl.cdiv(tl.maximum(W - offset, 0), BLOCK_N))
    a = 0
    while a < R:
        start, length = rows_of_segment(row_table, first_row + a, H)
        total = tl.zeros((BLOCK_K, BLOCK_N), dtype=tl.float32)
        block = 0
        while block < line_blocks:
            line = (p * line_blocks + block) * BLOCK_M + tl.arange(0, BLOCK_M)
            n = (line // H).to(tl.int64)
            i = line % H
            here = i[None, :] + tl.zeros((BLOCK_K, BLOCK_M), dtype=tl.int32)
            column_block = first_block
            while column_block < column_blocks:
                columns = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
                sources = column_block * BLOCK_N + offset + tl.arange(0, BLOCK_K)
                within = (sources >= 0) & (sources < W)
                valid = within[:, None] & (line < lines)[None, :]
                rows = x + ((n * xs_n + i * xs_h) * UNIT)[None, :] + sources[:, None]
                row_sums = sums + ((n * ss_n + i * W_units) * UNIT)[None, :] + sources[:, None]
                window = tl.zeros((BLOCK_K, BLOCK_M), dtype=tl.float32)
                r = start
                size = length
                if SUM_ROWS > 0:
                    while size >= SUM_ROWS:
                        r += SUM_ROWS
                        inside = valid & (here + r > 0) & (here + r < H + SUM_ROWS)
                        window += tl.load(row_sums + (r - 1) * W_units * UNIT, mask=inside, other=0.0)
                        size -= SUM_ROWS
                while size > 0:
                    inside = valid & (here + r >= 0) & (here + r < H)
                    window += tl.load(rows + r * xs_h * UNIT, mask=inside, other=0.0).to(tl.float32)
                    r += 1
                    size -= 1
                if x.dtype.element_ty == tl.float16:
                    window *= tl.load(scale_table + first_row + a)
                offsets = (n * gs_n + i * gs_h) * UNIT
                inside = (line < lines)[:, None] & (columns < W)[None, :]
                grad = tl.load(g + offsets[:, None] + columns[None, :], mask=inside, other=0.0)
                total = multiply_add(rounded(window, grad.dtype, PRECISION), grad, total, PRECISION)
                column_block += 1
            block += 1
        if x.dtype.element_ty == tl.float16:
            total /= tl.load(scale_table + first_row + a)
        table = column_table + first_lag + offset + radius
        store_shares(shares + a * S, total, table, -offset - radius, radius - offset, first_column, S)
        a += 1
