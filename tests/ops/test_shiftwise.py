"""The two forms of ``shiftwise_conv2d`` against each other, the definition pixel by pixel, and the published tables."""

from itertools import product

import needs
import pytest
import torch
from torch._subclasses import FakeTensor, FakeTensorMode

from pelk_mm.layers.mixers.shuffles import _draw, shuffle_tables, split_channels
from pelk_mm.ops import shiftwise_conv2d
from pelk_mm.ops.shiftwise import count_groups, shiftwise_kernels

CASES = list(product((51, 49, 47, 13), (3, 5), (1, 4)))
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
SIZES = {51: (60, 9), 49: (7, 31), 47: (50, 53), 13: (1, 5)}  # larger than the kernel, smaller, of one pixel


def problem(kernel_size, n, edges, size, dtype=torch.float64, channels=4, batch=2):
    """Input, weight and tables; the first two want gradients."""
    generator = torch.Generator().manual_seed(0)
    groups = count_groups(kernel_size, n)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()

    tables = shuffle_tables(channels, groups, edges)
    return draw(batch, channels, *size), draw(channels, groups, n, n), *tables, kernel_size


def outputs_and_gradients(args, backend):
    out = shiftwise_conv2d(*args, backend=backend)
    generator = torch.Generator().manual_seed(1)
    loss = sum((o * torch.randn(o.shape, generator=generator, dtype=torch.float64)).sum() for o in out)
    return [*(o.detach() for o in out), *torch.autograd.grad(loss, args[:2])]


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize(('kernel_size', 'n', 'edges'), CASES)
def test_the_dense_equivalent_is_the_same(kernel_size, n, edges, dtype):
    args = problem(kernel_size, n, edges, SIZES[kernel_size], dtype)
    groups = outputs_and_gradients(args, 'groups')
    # gradients of both forms against float64: over thousands of pixels that of the groups' weight itself rounds by 1e-5
    exact = outputs_and_gradients(problem(kernel_size, n, edges, SIZES[kernel_size]), 'groups')
    for backend in ('dense', None):
        stripes = outputs_and_gradients(args, backend)
        for got, want in (*zip(stripes[:3], groups[:3], strict=True), *zip(stripes, exact, strict=True)):
            assert (got - want).abs().max() <= TOLERANCE[dtype] * want.abs().max()


@pytest.mark.parametrize(('kernel_size', 'n'), [(13, 3), (7, 5), (5, 5)])
def test_groups_are_the_definition(kernel_size, n):
    """Each output pixel as the sum that the paper's operator says, read from zero-padded correlations one by one."""
    x, weight, horizontal, vertical, identity, _ = args = problem(kernel_size, n, 2, (6, 4), channels=2, batch=1)
    x, weight = x.detach(), weight.detach()
    groups, padding, edge = count_groups(kernel_size, n), n - 1, n // 2

    def u(c, j, row, column):
        """The full correlation of channel c with its group j, zero outside its map."""
        if not (0 <= row < 6 + padding and 0 <= column < 4 + padding):
            return 0.0
        taps = (
            x[0, c, row - padding + a, column - padding + b] * weight[c, j, a, b]
            for a in range(n)
            for b in range(n)
            if 0 <= row - padding + a < 6 and 0 <= column - padding + b < 4
        )
        return float(sum(taps))

    shifts = [kernel_size // 2 - i * n - padding for i in range(groups)]
    wide, tall, small = (torch.zeros(2, 6, 4, dtype=torch.float64) for _ in range(3))
    for c, y, column, r in product(range(2), range(6), range(4), range(2)):
        small[c, y, column] += u(c, int(identity[r, c]), y + edge, column + edge)
        for i, shift in enumerate(shifts):
            wide[c, y, column] += u(c, int(horizontal[r, c, i]), y + edge, column - shift)
            tall[c, y, column] += u(c, int(vertical[r, c, i]), y - shift, column + edge)
    for got, want in zip(shiftwise_conv2d(*args, backend='groups'), (wide, tall, small), strict=True):
        torch.testing.assert_close(got[0].detach(), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('backend', ['groups', 'dense', 'fft'])
@pytest.mark.parametrize(('kernel_size', 'n'), [(13, 3), (7, 5)])
def test_gradcheck(kernel_size, n, backend):
    x, weight, *rest = problem(kernel_size, n, 2, (4, 5), channels=2, batch=1)
    assert torch.autograd.gradcheck(lambda a, b: shiftwise_conv2d(a, b, *rest, backend=backend), (x, weight))


@needs.float16_on_cpu
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    args = problem(13, 3, 4, (9, 8), dtype)
    double = [a.detach().double().requires_grad_() if a.is_floating_point() else a for a in args[:-1]]
    for got, want in zip(
        outputs_and_gradients(args, None), outputs_and_gradients((*double, 13), 'groups'), strict=True
    ):
        assert got.dtype == dtype
        assert (got - want).abs().max() <= 16 * torch.finfo(dtype).eps * want.abs().max()
    exact = shiftwise_conv2d(*(a.double() if a.is_floating_point() else a for a in args[:-1]), 13)
    for got, want in zip(shiftwise_conv2d(*args), exact, strict=True):
        assert got.dtype == dtype
        assert (got - want).abs().max() <= 8 * torch.finfo(dtype).eps * want.abs().max()


def test_autocast_rounds_like_a_convolution():
    args = problem(13, 3, 4, (9, 8), torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        out = shiftwise_conv2d(*args)
    assert all(branch.dtype == torch.bfloat16 for branch in out)


def test_an_empty_batch_and_any_whole_numbers():
    x, weight, *tables, m = problem(13, 3, 4, (9, 8))
    assert all(out.shape == (0, 4, 9, 8) for out in shiftwise_conv2d(x[:0], weight, *tables, m))
    expected = shiftwise_conv2d(x, weight, *tables, m)
    for dtype in (torch.int32, torch.uint8):
        narrow = shiftwise_conv2d(x, weight, *(table.to(dtype) for table in tables), m)
        assert all(torch.equal(a, b) for a, b in zip(narrow, expected, strict=True))


@pytest.mark.parametrize(
    ('kernel_size', 'n', 'length'), [(51, 3, 51), (49, 3, 53), (47, 3, 49), (13, 3, 17), (51, 5, 59)]
)
def test_kernels_are_centred(kernel_size, n, length):
    _, weight, *tables, _ = problem(kernel_size, n, 4, (1, 1))
    wide, tall, small = shiftwise_kernels(weight, *tables, kernel_size)
    assert wide.shape == (4, 1, n, length)
    assert tall.shape == (4, 1, length, n)
    assert small.shape == (4, 1, n, n)
    assert (wide[..., : length // 2 - kernel_size // 2] == 0).all()
    assert (wide[..., length // 2 - kernel_size // 2] != 0).all()
    assert (wide[..., -1] != 0).all()


def test_published_tables():
    """What the authors' code draws from seed 123, in their order of drawing."""
    horizontal, vertical, identity = shuffle_tables(60, 17, 4)
    assert horizontal[0, 0].tolist() == [15, 14, 1, 0, 4, 7, 16, 2, 13, 11, 3, 12, 8, 5, 10, 6, 9]
    assert horizontal[0, 1].tolist() == [12, 16, 15, 3, 5, 9, 6, 14, 2, 8, 13, 11, 0, 10, 7, 1, 4]
    assert shuffle_tables(246, 16, 4)[0][0, 0].tolist() == [14, 5, 2, 0, 8, 11, 12, 9, 1, 13, 15, 6, 3, 4, 7, 10]
    assert shuffle_tables(492, 5, 4)[0][0, :2].tolist() == [[2, 0, 1, 3, 4], [0, 3, 2, 4, 1]]
    for group, expected in enumerate(([14, -13, 5, 5, -19, -19, 11, 17], [17, 20, -25, 23, 14, 20, 17, 2])):
        positions = [int((t[r, 0] == group).nonzero()) for t in (horizontal, vertical) for r in range(4)]
        assert [51 // 2 - 3 * position - 2 for position in positions] == expected
    assert (identity[:, :3] + 17 * torch.arange(3)).T.tolist() == [[0, 12, 4, 13], [30, 29, 21, 24], [37, 43, 49, 44]]


def test_published_channels():
    sizes = {80: 60, 160: 122, 320: 246, 640: 492, 96: 72, 192: 146, 384: 294, 768: 590, 128: 98, 1024: 788}
    for channels, convolved in sizes.items():
        kept, passed = split_channels(channels, 0.23)
        assert len(kept) == convolved
        assert sorted([*kept.tolist(), *passed.tolist()]) == list(range(channels))
    starts = {80: [4, 8, 9, 23, 29, 31, 37, 43, 44, 53, 58, 59], 160: [4, 7, 8, 13, 20, 23]}
    starts |= {320: [11, 12, 19, 20, 22, 26], 640: [5, 9, 11, 13, 31, 33]}
    for channels, start in starts.items():
        assert split_channels(channels, 0.23)[1][: len(start)].tolist() == start
    assert [len(split_channels(c, 0.23, even=False)[1]) for c in (96, 192, 384, 768)] == [22, 44, 88, 176]
    assert len(split_channels(7, 0.0, even=False)[1]) == 0


def test_tables_leave_the_global_generators_alone():
    import random

    import numpy as np

    _draw.cache_clear()
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    shuffle_tables(6, 5, 2)
    split_channels(30, 0.23)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


def test_fake_tables_are_not_kept():
    with FakeTensorMode():
        assert isinstance(shuffle_tables(7, 3, 2)[0], FakeTensor)
    assert shuffle_tables(7, 3, 2)[0].sum() == 7 * 2 * 3
    with FakeTensorMode():
        assert isinstance(shuffle_tables(7, 3, 2)[0], FakeTensor)


X, W, H, V, ID, M = problem(13, 3, 2, (5, 5), torch.float32)


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        ({'weight': torch.zeros(4, 4, 4, 4)}, ValueError, 'N, the size of the filters in weight, must be odd.*got 4'),
        ({'weight': torch.zeros(4, 5, 3, 5)}, ValueError, r'shape \(C, g, N, N\), but got \(4, 5, 3, 5\)'),
        ({'weight': torch.zeros(4, 4, 3, 3)}, ValueError, r'g = ceil\(13 / 3\) = 5 filters a channel'),
        ({'weight': torch.zeros(3, 5, 3, 3)}, ValueError, 'one kernel for each of the 4 channels'),
        ({'weight': torch.zeros(4, 5, 3, 3).double()}, TypeError, 'weight must have the dtype of input'),
        ({'stride': 2}, ValueError, 'stride must be 1'),
        ({'kernel_size': 12}, ValueError, 'kernel_size must be odd'),
        ({'kernel_size': 1}, ValueError, 'kernel_size must be at least 3'),
        ({'horizontal': H.float()}, TypeError, 'horizontal must be a tensor of whole numbers, but got torch.float32'),
        ({'vertical': V[..., :4]}, ValueError, r'vertical must have shape \(edges, 4, 5\), but got \(2, 4, 4\)'),
        ({'identity': ID[0]}, ValueError, r'identity must have shape \(edges, 4\), but got \(4,\)'),
        ({'identity': ID[:1]}, ValueError, 'same number of edges, but got horizontal 2, vertical 2, identity 1'),
        ({'vertical': V + 1}, ValueError, 'vertical must hold groups from 0 to 4, but got 1 to 5'),
        ({'identity': ID - 9}, ValueError, 'identity must hold groups from 0 to 4'),
        ({'horizontal': H.to('meta')}, ValueError, 'horizontal must be on the device of input'),
        ({'backend': 'cutlass'}, ValueError, "must be one of 'groups', 'dense', 'fft', 'triton', but got 'cutlass'"),
        ({'input': X[0]}, ValueError, r'input must have shape \(N, C, H, W\)'),
    ],
)
def test_bad_input(change, error, message):
    args = {'input': X, 'weight': W, 'horizontal': H, 'vertical': V, 'identity': ID, 'kernel_size': M}
    with pytest.raises(error, match=message):
        shiftwise_conv2d(**{**args, **change})


@pytest.mark.parametrize(
    ('args', 'error', 'message'),
    [
        ((80, 1.0), ValueError, r'ghost_ratio must be in \[0, 1\), but got 1.0'),
        ((80, -0.1), ValueError, 'ghost_ratio must be in'),
        ((80, 'a'), TypeError, 'ghost_ratio must be a finite number'),
        ((1, 0.5), ValueError, 'leaves none to convolve'),
        ((0, 0.5), ValueError, 'channels must be at least 1'),
    ],
)
def test_bad_split(args, error, message):
    with pytest.raises(error, match=message):
        split_channels(*args)
