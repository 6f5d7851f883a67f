import copy
import pickle

import pytest
import torch

from pelk_mm.ops import SharingGrid


def from_half(half):
    """The full sizes of a half grid, outside in, last entry the centre."""
    return (*half, *half[-2::-1])


PAPER_GRIDS = [
    # (K, central size, half grid) as printed in the paper or fixed by decision D1
    (33, 5, (8, 4, 2, 1, 1, 1)),
    (31, 5, (7, 4, 2, 1, 1, 1)),
    (51, 1, (11, 8, 4, 2, 1)),
    (51, 3, (10, 8, 4, 2, 1, 1)),
    (51, 5, (9, 8, 4, 2, 1, 1, 1)),
    (51, 7, (8, 8, 4, 2, 1, 1, 1, 1)),
    (49, 5, (8, 8, 4, 2, 1, 1, 1)),
    (47, 5, (7, 8, 4, 2, 1, 1, 1)),
    (13, 5, (2, 2, 1, 1, 1)),
    (101, 7, (17, 16, 8, 4, 2, 1, 1, 1, 1)),
    (67, 7, (16, 8, 4, 2, 1, 1, 1, 1)),
    (13, 7, (1, 2, 1, 1, 1, 1)),
    (69, 7, (17, 8, 4, 2, 1, 1, 1, 1)),
    (151, 7, (42, 16, 8, 4, 2, 1, 1, 1, 1)),
    (5, 1, (2, 1)),
]


@pytest.mark.parametrize(('kernel_size', 'central_size', 'half'), PAPER_GRIDS)
def test_exponential_gives_the_grids_of_the_paper(kernel_size, central_size, half):
    grid = SharingGrid.exponential(kernel_size, central_size)
    assert grid.sizes == from_half(half)
    assert grid.kernel_size == kernel_size
    assert grid.num_segments == 2 * len(half) - 1


def test_offsets_start_each_segment():
    assert SharingGrid((2, 1, 2)).offsets == (-2, 0, 1)
    assert SharingGrid.dense(3).offsets == (-1, 0, 1)


def test_expand_by_hand_figure_1a():
    weight = torch.arange(1.0, 10.0).view(1, 3, 3)
    expected = torch.tensor(
        [[1, 1, 2, 3, 3], [1, 1, 2, 3, 3], [4, 4, 5, 6, 6], [7, 7, 8, 9, 9], [7, 7, 8, 9, 9]], dtype=torch.float32
    )
    torch.testing.assert_close(SharingGrid((2, 1, 2)).expand(weight), expected.view(1, 1, 5, 5), rtol=0, atol=0)


@pytest.mark.parametrize('sizes', [(2, 1, 2), (7, 4, 2, 1, 1, 1, 1, 1, 2, 4, 7), (3,), (1, 1, 1)])
def test_pool_is_the_adjoint_of_expand(sizes):
    grid = SharingGrid(sizes)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, grid.num_segments, grid.num_segments, dtype=torch.float64, generator=generator)
    kernel = torch.randn(2, 1, grid.kernel_size, grid.kernel_size, dtype=torch.float64, generator=generator)
    torch.testing.assert_close((grid.expand(weight) * kernel).sum(), (weight * grid.pool(kernel)).sum())
    torch.testing.assert_close(grid.sample(grid.expand(weight)), weight, rtol=0, atol=0)


def test_refine_centre_keeps_every_cut():
    coarse = SharingGrid.exponential(51, central_size=1)
    fine = coarse.refine_centre(5)
    assert fine.sizes == from_half((11, 8, 4, 1, 1, 1))
    weight = torch.randn(1, coarse.num_segments, coarse.num_segments)
    dense = coarse.expand(weight)
    torch.testing.assert_close(fine.expand(fine.sample(dense)), dense, rtol=0, atol=0)
    assert SharingGrid.exponential(51, 5).refine_centre(5) == SharingGrid.exponential(51, 5)


def test_is_a_value():
    grid = SharingGrid([2, 1, 2])
    assert grid == SharingGrid((2, 1, 2))
    assert hash(grid) == hash(SharingGrid((2, 1, 2)))
    assert copy.deepcopy(grid) == grid
    assert pickle.loads(pickle.dumps(grid)) == grid
    with pytest.raises(AttributeError):
        grid.sizes = (1,)


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda: SharingGrid(()), ValueError, 'at least one segment'),
        (lambda: SharingGrid((1, 0, 1)), ValueError, r'at least 1 long, but got \(1, 0, 1\)'),
        (lambda: SharingGrid((1, 2, 3)), ValueError, r'symmetric about the centre, but got \(1, 2, 3\)'),
        (lambda: SharingGrid((1, 1)), ValueError, r'odd kernel size, but \(1, 1\) sums to 2'),
        (lambda: SharingGrid((1.0, 1, 1.0)), TypeError, 'every entry of sizes must be an int, but got 1.0'),
        (lambda: SharingGrid('111'), TypeError, 'sequence of ints'),
        (lambda: SharingGrid.exponential(50), ValueError, 'kernel_size must be odd and positive, but got 50'),
        (lambda: SharingGrid.exponential(-3), ValueError, 'kernel_size must be odd and positive, but got -3'),
        (lambda: SharingGrid.exponential(51, 4), ValueError, 'central_size must be odd and positive, but got 4'),
        (lambda: SharingGrid.exponential(3, 5), ValueError, 'central_size must be at most kernel_size=3, but got 5'),
        (lambda: SharingGrid.exponential(51, base=0), ValueError, 'base must be at least 1, but got 0'),
        (lambda: SharingGrid.exponential(51.0), TypeError, 'kernel_size must be an int, but got 51.0'),
        (lambda: SharingGrid.dense(2), ValueError, 'kernel_size must be odd and positive, but got 2'),
        (lambda: SharingGrid((2, 1, 2)).expand(torch.zeros(1, 5, 5)), ValueError, r'\(C, 3, 3\).*got \(1, 5, 5\)'),
        (lambda: SharingGrid((2, 1, 2)).pool(torch.zeros(1, 5, 5)), ValueError, r'\(C, 1, 5, 5\), but got \(1, 5, 5\)'),
        (lambda: SharingGrid((2, 1, 2)).refine_centre(7), ValueError, 'at most kernel_size=5, but got 7'),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
