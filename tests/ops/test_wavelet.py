"""The wavelet convolution against its authors' formulation: grouped convolutions with Haar filters."""

import needs
import pytest
import torch
from torch.nn import functional as F

from pelk_mm.ops import wavelet, wavelet_conv2d
from pelk_mm.ops.wavelet import haar_transform, inverse_haar_transform

SIDES = [(16, 16), (9, 11), (1, 1), (1, 6), (13, 2)]


def filters(channels, dtype=torch.float64):
    """(4 C, 1, 2, 2), a band behind the other for each channel."""
    signs = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], dtype=dtype)
    return (signs / 2).reshape(4, 1, 2, 2).repeat(channels, 1, 1, 1)


def plain(x, weight, level_weights, bias):
    """By 2 x 2 convolutions of stride 2 and their transposes, level by level."""
    channels = x.shape[1]
    haar = filters(channels, x.dtype)
    same = {'padding': 'same'}
    details, sizes, means = [], [], [x]
    for kernel in level_weights:
        mean = means[-1]
        sizes.append(mean.shape[2:])
        padded = F.pad(mean, (0, mean.shape[3] % 2, 0, mean.shape[2] % 2))
        bands = F.conv2d(padded, haar, stride=2, groups=channels)
        means.append(bands[:, 0::4])
        details.append(F.conv2d(bands, kernel, groups=4 * channels, **same))
    below = 0
    for bands, size in zip(reversed(details), reversed(sizes), strict=True):
        bands = bands.clone()
        bands[:, 0::4] += below
        below = F.conv_transpose2d(bands, haar, stride=2, groups=channels)[..., : size[0], : size[1]]
    return F.conv2d(x, weight, bias, groups=channels, **same) + below


def made_up(size, levels, kernel=5, channels=3, dtype=torch.float64):
    torch.manual_seed(0)
    x = torch.randn(2, channels, *size, dtype=dtype, requires_grad=True)
    weight = torch.randn(channels, 1, kernel, kernel, dtype=dtype, requires_grad=True)
    level_weights = [
        torch.randn(4 * channels, 1, kernel, kernel, dtype=dtype, requires_grad=True) for _ in range(levels)
    ]
    bias = torch.randn(channels, dtype=dtype, requires_grad=True)
    return x, weight, level_weights, bias


@pytest.mark.parametrize('size', SIDES)
@pytest.mark.parametrize('levels', [0, 1, 2, 5])
def test_output_and_gradients(size, levels):
    x, weight, level_weights, bias = made_up(size, levels)
    leaves = [x, weight, *level_weights, bias]
    ours, theirs = wavelet_conv2d(x, weight, level_weights, bias), plain(x, weight, level_weights, bias)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    probe = torch.randn_like(ours)
    for got, expected in zip(
        torch.autograd.grad(ours, leaves, probe), torch.autograd.grad(theirs, leaves, probe), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('size', SIDES)
def test_the_transform_and_its_inverse(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    bands = haar_transform(x)
    padded = F.pad(x, (0, size[1] % 2, 0, size[0] % 2))
    expected = F.conv2d(padded, filters(3), stride=2, groups=3)
    torch.testing.assert_close(bands.flatten(1, 2), expected)
    torch.testing.assert_close(bands.square().sum(), x.square().sum())  # orthonormal
    torch.testing.assert_close(inverse_haar_transform(bands), padded)


@pytest.mark.parametrize('size', SIDES)
def test_what_graphs_see_is_the_same(size, monkeypatch):
    x, weight, level_weights, bias = made_up(size, 3)
    leaves = [x, weight, *level_weights, bias]
    expected = wavelet_conv2d(x, weight, level_weights, bias)
    expected_gradients = torch.autograd.grad(expected.square().sum(), leaves)
    monkeypatch.setattr(wavelet, 'is_watched', lambda *tensors: True)
    got = wavelet_conv2d(x, weight, level_weights, bias)
    torch.testing.assert_close(got, expected)
    for gradient, other in zip(torch.autograd.grad(got.square().sum(), leaves), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other)


def test_second_derivatives_of_the_transforms():
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: haar_transform(t).square(), x)
    bands = torch.randn(1, 2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: inverse_haar_transform(t).square(), bands)


@needs.library
@pytest.mark.slow
def test_compiled_in_one_graph():
    x, weight, level_weights, bias = made_up((9, 12), 2, dtype=torch.float32)
    compiled = torch.compile(wavelet_conv2d, fullgraph=True, backend='aot_eager')
    got, expected = (f(x, weight, level_weights, bias) for f in (compiled, wavelet_conv2d))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    probe = torch.randn_like(got)
    for gradient, other in zip(
        torch.autograd.grad(got, [x, weight], probe), torch.autograd.grad(expected, [x, weight], probe), strict=True
    ):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, pytest.param(torch.float16, marks=needs.float16_on_cpu)]
)
def test_other_types_and_layouts(dtype):
    x, weight, level_weights, bias = made_up((14, 13), 3)
    expected = plain(x, weight, level_weights, bias)
    cast = [tensor.detach().to(dtype) for tensor in (x, weight, *level_weights, bias)]
    got = wavelet_conv2d(cast[0].contiguous(memory_format=torch.channels_last), cast[1], cast[2:-1], cast[-1])
    assert got.dtype == dtype
    error = (got.double() - expected).abs().max() / expected.abs().max()
    assert error < {torch.float32: 1e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]


def test_autocast():
    x, weight, level_weights, bias = made_up((8, 8), 2, dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        got = wavelet_conv2d(x, weight, level_weights, bias)
    assert got.dtype == torch.bfloat16
    got.float().sum().backward()
    assert all(tensor.grad.dtype == torch.float32 for tensor in (x, weight, *level_weights, bias))


def test_a_level_sees_twice_as_far_as_the_one_before():
    """The reach of an impulse: k 2**l pixels, less what the place in its cell takes."""
    generator = torch.Generator().manual_seed(0)
    for levels, reach in ((0, 5), (1, 10), (2, 20), (3, 40)):
        x = torch.zeros(1, 1, 64, 64)
        x[..., 32, 32] = 1
        weights = [torch.rand(4, 1, 5, 5, generator=generator) for _ in range(levels)]
        seen = wavelet_conv2d(x, torch.ones(1, 1, 5, 5), weights)[0, 0].abs() > 1e-6
        rows = seen.any(1).nonzero()
        assert rows.max() - rows.min() + 1 == reach


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        ({'level_weights': [torch.ones(3, 1, 5, 5)]}, ValueError, r'level_weights must have shape \(12, 1, k, k\)'),
        ({'level_weights': [None]}, ValueError, 'that of level 1 is NoneType'),
        ({'level_weights': [torch.ones(12, 1, 4, 4)]}, ValueError, 'height of weight must be odd'),
        ({'level_weights': [torch.ones(12, 1, 5, 5).double()]}, TypeError, 'weight must have the dtype of input'),
        ({'weight': torch.ones(4, 1, 5, 5)}, ValueError, 'weight must have one kernel for each of the 3 channels'),
        ({'bias': torch.ones(4)}, ValueError, 'bias must have shape'),
        ({'input': torch.ones(3, 8, 8)}, ValueError, 'input must have shape'),
    ],
)
def test_bad_arguments_in_one_line(changes, error, message):
    arguments = {
        'input': torch.ones(1, 3, 8, 8),
        'weight': torch.ones(3, 1, 5, 5),
        'level_weights': [torch.ones(12, 1, 5, 5)],
    }
    with pytest.raises(error, match=message) as caught:
        wavelet_conv2d(**{**arguments, **changes})
    assert '\n' not in str(caught.value)
