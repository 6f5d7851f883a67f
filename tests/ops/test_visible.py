import pytest
import torch
from torch.nn import functional as F

from pelk_mm.ops import visible_sum


@pytest.mark.parametrize('size', [(1, 1), (3, 9), (5, 5), (12, 7), (1, 20)])
@pytest.mark.parametrize('kernel_size', [1, 5, 13])
def test_equals_the_convolution_of_ones(kernel_size, size):
    product = torch.randn(3, kernel_size, kernel_size, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(1, 3, *size, dtype=torch.float64)
    expected = F.conv2d(ones, product.unsqueeze(1), padding=kernel_size // 2, groups=3)[0]
    actual = visible_sum(product, size)
    torch.testing.assert_close(actual, expected)
    cotangent = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, product, cotangent), torch.autograd.grad(expected, product, cotangent)
    )


@pytest.mark.parametrize('kernel', [(1, 5), (7, 3), (5, 13)])
def test_rectangular_kernels(kernel):
    product = torch.randn(3, *kernel, dtype=torch.float64)
    ones = torch.ones(1, 3, 6, 9, dtype=torch.float64)
    padding = (kernel[0] // 2, kernel[1] // 2)
    expected = F.conv2d(ones, product.unsqueeze(1), padding=padding, groups=3)[0]
    torch.testing.assert_close(visible_sum(product, (6, 9)), expected)


def test_equals_prefix_sums_and_four_look_ups():
    """The textbook form, on a map larger than the kernel."""
    k, height, width = 5, 8, 9
    product = torch.randn(2, k, k, dtype=torch.float64)
    prefix = F.pad(product.cumsum(1).cumsum(2), (1, 0, 1, 0))

    def bounds(position, length):
        return max(0, k // 2 - position), min(k, length - position + k // 2)

    expected = torch.empty(2, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            (top, bottom), (left, right) = bounds(y, height), bounds(x, width)
            expected[:, y, x] = (
                prefix[:, bottom, right] - prefix[:, top, right] - prefix[:, bottom, left] + prefix[:, top, left]
            )
    torch.testing.assert_close(visible_sum(product, (height, width)), expected)


@pytest.mark.parametrize(
    ('product', 'size', 'error', 'message'),
    [
        (torch.ones(1, 4, 4), (3, 3), ValueError, 'kh of product must be odd and positive, but got 4'),
        (torch.ones(1, 3, 4), (3, 3), ValueError, 'kw of product must be odd and positive, but got 4'),
        (torch.ones(3, 5), (3, 3), ValueError, r'\(C, kh, kw\), but got \(3, 5\)'),
        (torch.ones(1, 3, 3).half(), (3, 3), TypeError, 'float32 or float64 tensor, but got torch.float16'),
        (torch.ones(1, 3, 3), (0, 3), ValueError, 'H of size must be at least 1, but got 0'),
    ],
)
def test_bad_input(product, size, error, message):
    with pytest.raises(error, match=message):
        visible_sum(product, size)


def test_stays_in_float32_under_autocast():
    with torch.autocast('cpu', torch.bfloat16):
        assert visible_sum(torch.ones(1, 3, 3), (4, 4)).dtype == torch.float32
