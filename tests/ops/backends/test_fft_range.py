"""Values near the largest finite one: a finite result comes out finite, and an image keeps to itself."""

import math

import pytest
import torch

from pelk_mm.ops import depthwise_conv2d

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.mark.parametrize('images', [1, 2, 3])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_large_values_give_the_finite_result(dtype, images):
    peak = torch.finfo(dtype).max / 4
    generator = torch.Generator().manual_seed(0)
    input = (torch.rand(images, 2, 20, 20, generator=generator, dtype=torch.float64) * peak).to(dtype).requires_grad_()
    weight = torch.zeros(2, 1, 31, 31, dtype=dtype)
    weight[..., 15, 15] = 1
    weight.requires_grad_()
    output = depthwise_conv2d(input, weight, backend='fft')
    tolerance = 8 * torch.finfo(dtype).eps * peak
    torch.testing.assert_close(output, input, rtol=0, atol=tolerance)
    (grad_input,) = torch.autograd.grad(output, input, input.detach(), retain_graph=True)
    torch.testing.assert_close(grad_input, input, rtol=0, atol=tolerance)
    small = torch.full_like(input, 2.0**-12)
    (grad_weight,) = torch.autograd.grad(output, weight, small)
    reference = weight.detach().double().requires_grad_()
    exact = depthwise_conv2d(input.detach().double() / peak, reference, backend='dense')
    (expected,) = torch.autograd.grad(exact, reference, small.double())
    tolerance = 8 * torch.finfo(dtype).eps * float(expected.abs().max())
    torch.testing.assert_close(grad_weight.double() / peak, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize('images', [1, 2, 3])
@pytest.mark.parametrize('value', [math.nan, math.inf])
@pytest.mark.parametrize(('backend', 'touched'), [('dense', 49), ('fft', 576)])
def test_a_pixel_that_is_not_finite_touches_its_image_and_channel_only(backend, touched, value, images):
    input = torch.ones(images, 2, 24, 24)
    input[0, 0, 12, 12] = value
    ones = torch.ones(images, 2, 24, 24).requires_grad_()
    weight = torch.ones(2, 1, 7, 7)
    output = depthwise_conv2d(input, weight, backend=backend)
    (grad,) = torch.autograd.grad(depthwise_conv2d(ones, weight, backend=backend), ones, input)
    expected = torch.zeros(images, 2, dtype=torch.int64)
    expected[0, 0] = touched
    for result in (output, grad):
        assert torch.equal((~result.isfinite()).sum((2, 3)), expected)


@pytest.mark.parametrize(('backend', 'bound'), [('dense', 1e-11), ('fft', 1e-6)])
def test_an_outlier_leaves_an_error_far_away_of_its_own_rounding(backend, bound):
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(1, 1, 56, 56, generator=generator)
    input[0, 0, 0, 0] = 1e8
    weight = torch.randn(1, 1, 51, 51, generator=generator)
    exact = depthwise_conv2d(input.double(), weight.double(), backend='dense')
    error = (depthwise_conv2d(input, weight, backend=backend) - exact)[..., 40:, 40:].abs().max()
    assert error < bound * 1e8
