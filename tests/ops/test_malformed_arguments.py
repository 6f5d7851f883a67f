"""Arguments of every public op, grid and mixer that cannot be: an error at once that names the argument."""

import math

import pytest
import torch

from pelk_mm.layers.mixers.table import find_mixer
from pelk_mm.models import InceptionNeXt, PeLK, RepLK51, ShiftWiseNet, SLaK, UniRepLKNet
from pelk_mm.ops import SharingGrid, depthwise_conv2d, peripheral_conv2d, set_backend, visible_sum

GRID = SharingGrid((2, 1, 2))
X = torch.zeros(1, 2, 4, 4)
NOT_A_TENSOR = [None, 3, 'text', [[1.0]], X.numpy()]
WRONG_SHAPE = [torch.zeros(3, 4, 4), X[:, :0], X[:, :, :0], torch.zeros(()), torch.zeros(1, 2, 4, 4, 1)]


@pytest.mark.parametrize('value', [*NOT_A_TENSOR, *WRONG_SHAPE, X.int(), X.bool(), X.cfloat()], ids=lambda v: '')
@pytest.mark.parametrize('name', ['input', 'weight', 'bias'])
@pytest.mark.parametrize('op', ['peripheral', 'depthwise'])
def test_tensors_of_a_convolution(op, name, value):
    tensors = {'input': X, 'weight': torch.zeros(2, 3, 3), 'bias': None}
    if op == 'depthwise':
        tensors['weight'] = torch.zeros(2, 1, 5, 5)
    if name == 'bias' and value is None:
        pytest.skip('a bias may be left out')
    tensors[name] = value
    grid = (GRID,) if op == 'peripheral' else ()
    call = peripheral_conv2d if op == 'peripheral' else depthwise_conv2d
    with pytest.raises((TypeError, ValueError), match=name):
        call(tensors['input'], tensors['weight'], *grid, tensors['bias'])


@pytest.mark.parametrize('sizes', [(), (2, 2), (0, 1, 0), (1, -1, 1), (1.5, 1, 1.5), 'abc', 3, (2, 1, 3), (math.nan,)])
def test_sizes_of_a_grid(sizes):
    with pytest.raises((TypeError, ValueError), match='size'):
        SharingGrid(sizes)


def make_mixer(name, channels, kernel):
    kind = find_mixer(name)
    return kind(channels, band_kernel=kernel) if name == 'inception' else kind(channels, kernel)


@pytest.mark.parametrize('value', [0, -3, 4, 2.5, '5', None, True, 10**12 + 1, math.nan])
@pytest.mark.parametrize('mixer', ['peripheral', 'dense', 'stripe', 'shiftwise', 'dilated', 'inception'])
def test_kernel_of_a_mixer(mixer, value):
    with pytest.raises((TypeError, ValueError), match='kernel'):
        make_mixer(mixer, 24, value)


@pytest.mark.parametrize('value', [0, -3, 2.5, '5', None])
@pytest.mark.parametrize('mixer', ['peripheral', 'dense', 'stripe', 'shiftwise', 'dilated', 'inception'])
def test_channels_of_a_mixer(mixer, value):
    with pytest.raises((TypeError, ValueError), match='channels'):
        make_mixer(mixer, value, 13)


@pytest.mark.parametrize('value', [-0.1, 1, 2.0, math.nan, math.inf, '0.1', None])
@pytest.mark.parametrize('network', [PeLK, ShiftWiseNet, SLaK, UniRepLKNet, InceptionNeXt, RepLK51])
def test_stochastic_depth(network, value):
    with pytest.raises((TypeError, ValueError), match='drop_path_rate'):
        network(drop_path_rate=value)


@pytest.mark.parametrize('value', [4, -5, 'last', (), (0, 0), [1.5], None])
@pytest.mark.parametrize('network', [PeLK, SLaK, RepLK51])
def test_stages_put_out(network, value):
    with pytest.raises((TypeError, ValueError), match='out_indices'):
        network(out_indices=value)


@pytest.mark.parametrize('value', ['cutlass', '', 3])
def test_a_back_end(value):
    with pytest.raises((TypeError, ValueError), match='must be one of'):
        set_backend(value)
    with pytest.raises((TypeError, ValueError), match='backend'):
        peripheral_conv2d(X, torch.zeros(2, 3, 3), GRID, backend=value)


@pytest.mark.parametrize('product', [torch.zeros(2, 4, 5), torch.zeros(2, 5), torch.zeros(2, 5, 0), None])
def test_a_visible_sum(product):
    with pytest.raises((TypeError, ValueError), match='product'):
        visible_sum(product, (4, 4))


@pytest.mark.parametrize('backend', ['dense', 'fft'])
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_an_image_that_is_not_finite_keeps_to_itself(backend, value):
    """Zero weights and a finite neighbour: nothing of it comes out of another image."""
    x = torch.ones(2, 2, 9, 9)
    x[0, 0, 4, 4] = value
    y = peripheral_conv2d(x, torch.ones(2, 3, 3), GRID, backend=backend)
    assert torch.isfinite(y[1]).all()
    assert not torch.isfinite(y[0, 0]).all()
