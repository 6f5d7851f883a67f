import pytest
import torch

from pelk_mm.ops import SharingGrid, depthwise_conv2d, peripheral_conv2d

GRID = SharingGrid((2, 1, 2))
X = torch.zeros(1, 2, 4, 4)
W = torch.zeros(2, 3, 3)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ((X[0], W, GRID), ValueError, r'input must have shape \(N, C, H, W\).*got \(2, 4, 4\)'),
        ((X[:, :, :0], W, GRID), ValueError, r'H, W >= 1, but got \(1, 2, 0, 4\)'),
        ((X[:, :0], W[:0], GRID), ValueError, r'C, H, W >= 1, but got \(1, 0, 4, 4\)'),
        ((X, torch.zeros(2, 5, 5), GRID), ValueError, r'\(C, 3, 3\) for the grid \(2, 1, 2\), but got \(2, 5, 5\)'),
        ((X, torch.zeros(3, 3, 3), GRID), ValueError, r'each of the 2 channels of input, but got shape \(3, 3, 3\)'),
        ((X, W[:, 0], GRID), ValueError, r'but got \(2, 3\)'),
        ((X, W, GRID, torch.zeros(3)), ValueError, r'bias must have shape \(2,\), or .* as a map, but got \(3,\)'),
        ((X.double(), W, GRID), TypeError, 'weight must have the dtype of input, torch.float64, but got torch.float32'),
        ((X.int(), W.int(), GRID), TypeError, 'input must be float32, .* but got torch.int32'),
        ((X.cfloat(), W, GRID), TypeError, 'but got torch.complex64'),
        ((X, W.to('meta'), GRID), ValueError, 'weight must be on the device of input, cpu, but got meta'),
        ((X, None, GRID), TypeError, 'weight must be a torch.Tensor, but got NoneType'),
        ((X, W, (2, 1, 2)), TypeError, 'grid must be a SharingGrid, but got tuple'),
    ],
)
@pytest.mark.parametrize('backend', [None, 'fft'])
def test_peripheral(arguments, error, message, backend):
    with pytest.raises(error, match=message):
        peripheral_conv2d(*arguments, backend=backend)


@pytest.mark.parametrize(
    ('weight', 'message'),
    [
        (torch.zeros(2, 1, 4, 3), 'height of weight must be odd and positive, but got 4'),
        (torch.zeros(2, 1, 3, 0), 'width of weight must be odd and positive, but got 0'),
        (torch.zeros(2, 3, 3), r'weight must have shape \(C, 1, kh, kw\), but got \(2, 3, 3\)'),
        (torch.zeros(2, 2, 3, 3), r'but got \(2, 2, 3, 3\)'),
    ],
)
def test_depthwise(weight, message):
    with pytest.raises(ValueError, match=message):
        depthwise_conv2d(X, weight)


def test_unknown_backend_lists_the_choices():
    with pytest.raises(ValueError, match="backend must be one of 'dense', 'fft', 'triton', but got 'cutlass'"):
        peripheral_conv2d(X, W, GRID, backend='cutlass')
