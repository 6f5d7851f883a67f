"""Multiply-adds of the siblings at 224 x 224 from their papers' tables of widths and depths, summed layer by layer."""

SIDES = (56, 28, 14, 7)
CLASSES = 1000


def quarters(width):
    return [width * 2**i for i in range(4)]


def overlapping(widths):
    """The two stem convolutions and those between the stages, all 3 x 3."""
    half = widths[0] // 2
    total = 27 * half * 112**2 + 9 * half * widths[0] * 56**2
    return total + sum(9 * widths[i - 1] * widths[i] * SIDES[i] ** 2 for i in (1, 2, 3))


def wtconvnext(depths, width):
    """A 5 x 5 convolution of the map and one of the four bands of each level; the transforms count nothing."""
    widths, total = quarters(width), 0
    for i, (c, side, depth, levels) in enumerate(zip(widths, SIDES, depths, (5, 4, 3, 2), strict=True)):
        total += (4 * widths[i - 1] if i else 48) * c * side**2
        mixed, half = side**2, side
        for _ in range(levels):
            half = -(-half // 2)
            mixed += 4 * half**2
        total += depth * (25 * c * mixed + 8 * c * c * side**2)
    return total + CLASSES * widths[3]


def wbmm(plan, width, last_branches):
    """For each value 49 of its window in the blocks 'W', 9 in the blocks 'D'; every branch of the last stage."""
    widths = quarters(width)
    total = overlapping(widths)
    for i, (c, side, blocks) in enumerate(zip(widths, SIDES, plan, strict=True)):
        for block in blocks:
            taps = 49 * (last_branches if i == 3 else 1) if block == 'W' else 9
            total += (taps * c + 8 * c * c) * side**2 + 2 * c * (c // 4)
    return total + CLASSES * widths[3]


def uniconvnet(depths, width, group_width):
    """The deformable convolution counts its linears and its 3 x 3 convolution, not its sampling."""
    widths = quarters(width)
    total = overlapping(widths)
    for c, side, depth in zip(widths, SIDES, depths, strict=True):
        q, pixel = c // 4, 0
        for i, kernel in enumerate((7, 9, 11), start=1):
            known = i * q
            pixel += 3 * known**2 + kernel**2 * known + q * q + 9 * q + (known * q if i > 1 else 0)
        pixel += 2 * c * c + 9 * c + 27 * c * (c // group_width)
        total += depth * (pixel + 8 * c * c) * side**2
    return total + CLASSES * widths[3]


def overlock(depths, focus_depths, channels, kernels=(17, 15, 13, 7), small=5):
    """Deployed, so with norms (BatchNorm 2, LayerNorm 5 a value), means and products; kernels count all taps."""
    c1, _, c3, c4 = channels
    context, half = c4 // 4, c1 // 2
    total = (
        (27 + 9 * half) * half * 112**2 + (9 * half + 9 * c1) * c1 * 56**2 + 2 * (2 * half * 112**2 + 2 * c1 * 56**2)
    )
    for i, (c, side, depth, kernel) in enumerate(zip(channels, SIDES, depths, kernels, strict=True)):
        if i:
            total += (9 * channels[i - 1] + 2) * c * side**2
        # 3 x 3, LayerNorm, K x K, BatchNorm, the mean of the gate, MLP with 3 x 3
        total += depth * (c * (9 + 5 + kernel**2 + 2 + 1 + 8 * c + 36) * side**2 + 2 * c * max(c // 8, 16))
    total += c4 * context * 7**2 + 4 * context * 14**2  # the overview, projected and resized
    total += (9 * c3 + 2) * c4 * 7**2 + (9 * context + 2) * context * 7**2
    for c, side, depth, kernel in zip((c3, c4), (14, 7), focus_depths, kernels[2:], strict=True):
        both, taps = c + context, small**2 + kernel**2
        pixel = both * (9 + 5 + 9 + 2 + c)  # 3 x 3, LayerNorm, 3 x 3, BatchNorm, 1 x 1
        pixel += c * (c + 2) + c * (kernel**2 + 2)  # gate and static kernel
        pixel += c * (c + 2) // 2 + context + taps * c  # queries, regions, products with the keys and with the values
        pixel += c * (c + 2) + c + 2 * c + c * both  # 1 x 1, mean, BatchNorm, 1 x 1
        pixel += both * (9 + 5 + 6 * c) + 27 * c  # 3 x 3, LayerNorm, MLP with 3 x 3
        regions = 49 * (c // 2) * (context + 2 + taps)
        total += depth * (pixel * side**2 + regions + 2 * c * max(c // 8, 16))
    return total + (c4 + context + 3) * 1024 * 7**2 + CLASSES * 1024


def unirep_plan(*depths, period=2):
    """WBMM's blocks: none with windows in stage 1, all in stage 4."""
    return 'D' * depths[0], *(alternating(depth, step) for depth, step in zip(depths[1:], (2, period, 1), strict=True))


def alternating(depth, period):
    return ''.join('D' if block % period else 'W' for block in range(depth))


NEWER = {
    'WTConvNeXt-T': (wtconvnext, (3, 3, 9, 3), 96),
    'WTConvNeXt-S': (wtconvnext, (3, 3, 27, 3), 96),
    'WBMM-N': (wbmm, unirep_plan(2, 2, 8, 2), 80, 3),
    'WBMM-T': (wbmm, unirep_plan(3, 3, 18, 3), 80, 1),
    'WBMM-S': (wbmm, unirep_plan(3, 3, 27, 3, period=3), 96, 1),
    'OverLoCK-T': (overlock, (4, 4, 6, 2), (12, 2), (64, 128, 256, 512)),
    'OverLoCK-B': (overlock, (8, 8, 10, 4), (20, 4), (80, 160, 384, 576)),
    'UniConvNet-A': (uniconvnet, (2, 3, 9, 2), 24, 8),
    'UniConvNet-P1': (uniconvnet, (2, 3, 6, 3), 32, 8),
    'UniConvNet-P2': (uniconvnet, (3, 3, 11, 3), 32, 8),
    'UniConvNet-N0': (uniconvnet, (2, 2, 7, 2), 48, 16),
    'UniConvNet-N1': (uniconvnet, (2, 2, 8, 3), 48, 16),
    'UniConvNet-N2': (uniconvnet, (3, 3, 11, 3), 48, 16),
    'UniConvNet-N3': (uniconvnet, (3, 3, 19, 3), 48, 16),
    'UniConvNet-T': (uniconvnet, (3, 3, 15, 3), 64, 16),
    'UniConvNet-S': (uniconvnet, (3, 3, 17, 3), 80, 16),
    'UniConvNet-B': (uniconvnet, (4, 4, 13, 4), 112, 16),
}


def newer_macs(name):
    formula, *arguments = NEWER[name]
    return formula(*arguments)
