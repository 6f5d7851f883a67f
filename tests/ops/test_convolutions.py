"""Both public convolutions against an independent formulation, on every back-end."""

import needs
import pytest
import torch
from convolution_cases import GRIDS, assert_same, problem, run
from torch.nn import functional as F

from pelk_mm.ops import SharingGrid, depthwise_conv2d, peripheral_conv2d

BACKENDS = ('dense', 'fft')  # 'triton' computes no float64 and has tests of its own


def by_shifts(x, weight, grid, bias=None):
    """Eq. 1 spelled out: shift the padded image by every tap and add it with its region's parameter."""
    radius = grid.kernel_size // 2
    segment = [a for a, size in enumerate(grid.sizes) for _ in range(size)]
    padded = F.pad(x, (radius,) * 4)
    height, width = x.shape[2:]
    out = torch.zeros_like(x)
    for i, a in enumerate(segment):
        rows = padded[:, :, i : i + height]
        for j, b in enumerate(segment):
            out = out + weight[:, a, b, None, None] * rows[..., j : j + width]
    return out if bias is None else out + bias[:, None, None]


@pytest.mark.parametrize('backend', BACKENDS)
def test_figure_1a_by_hand(backend):
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0
    weight = torch.arange(1.0, 10.0).view(1, 3, 3)
    # the response to an impulse under cross-correlation is the kernel turned by 180 degrees
    expected = torch.tensor(
        [[9, 9, 8, 7, 7], [9, 9, 8, 7, 7], [6, 6, 5, 4, 4], [3, 3, 2, 1, 1], [3, 3, 2, 1, 1]], dtype=torch.float32
    )
    out = peripheral_conv2d(x, weight, SharingGrid((2, 1, 2)), torch.tensor([0.5]), backend=backend)
    torch.testing.assert_close(out[0, 0], expected + 0.5, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('size', [(1, 1), (7, 5), (12, 20)])
@pytest.mark.parametrize('name', ['fig1a', '13', 'one-segment'])
def test_agrees_with_shifts(backend, name, size):
    grid = GRIDS[name]
    tensors = problem(grid, size)
    expected = run(lambda x, w, b: by_shifts(x, w, grid, b), tensors)
    actual = run(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend=backend), tensors)
    assert_same(actual, expected)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('with_bias', [True, False])
def test_gradcheck(backend, with_bias):
    grid = SharingGrid((3, 1, 1, 1, 3))
    x, weight, bias = problem(grid, (4, 7), channels=2)
    tensors = (x, weight, bias) if with_bias else (x, weight)

    def function(x, weight, bias=None):
        return peripheral_conv2d(x, weight, grid, bias, backend=backend)

    assert torch.autograd.gradcheck(function, tensors)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(('kernel', 'size'), [((49, 3), (50, 53)), ((51, 3), (64, 28)), ((51, 5), (56, 56))])
def test_gradients_of_tall_kernels(backend, dtype, kernel, size):
    """Where oneDNN's weight gradient of a stock convolution is wrong by a third (torch 2.11, contiguous images)."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator).to(dtype) for shape in ((1, 4, *size), (4, 1, *kernel)))
    cotangent = torch.randn(x.shape, generator=generator).to(dtype)

    def gradients(dtype, backend):
        tensors = [tensor.to(dtype).requires_grad_() for tensor in (x, weight)]
        return torch.autograd.grad(depthwise_conv2d(*tensors, backend=backend), tensors, cotangent.to(dtype))

    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for got, want in zip(gradients(dtype, backend), gradients(torch.float64, 'fft'), strict=True):
        assert (got - want).abs().max() <= tolerance * want.abs().max()


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [pytest.param(torch.float16, marks=needs.float16_on_cpu), torch.bfloat16])
@pytest.mark.parametrize('kernel_size', [7, 13, 31])
@pytest.mark.parametrize('autocast', [False, True])
def test_gradients_in_half_precision(backend, dtype, kernel_size, autocast):
    """On every processor: torch sums an image's gradient in its own type where oneDNN does not know that type."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 32, 28), (4, 1, kernel_size, kernel_size))
    x, weight = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    cotangent = torch.randn(x.shape, generator=generator).to(dtype)

    def gradients(dtype, backend):
        tensors = [tensor.to(dtype).requires_grad_() for tensor in (x, weight)]
        out = depthwise_conv2d(*tensors, backend=backend)
        return torch.autograd.grad(out, tensors, cotangent.to(out.dtype))

    want = gradients(torch.float64, 'fft')
    with torch.autocast('cpu', dtype, enabled=autocast):
        got = gradients(torch.float32 if autocast else dtype, backend)
    for ours, exact in zip(got, want, strict=True):
        assert (ours - exact).abs().max() <= torch.finfo(dtype).eps * exact.abs().max()


@pytest.mark.parametrize('backend', BACKENDS)
def test_empty_batch(backend):
    grid = GRIDS['13']
    x, weight, bias = problem(grid, (8, 8), batch=0)
    result = run(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend=backend), (x, weight, bias))
    assert result['output'].shape == (0, 3, 8, 8)
    assert result['d_weight'].abs().sum() == 0


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('layout', ['channels_last', 'slice', 'transposed', 'expanded'])
def test_layouts(backend, layout):
    grid = GRIDS['13']
    x, weight, bias = problem(grid, (16, 12), channels=4)

    def lay_out(x):
        return {
            'channels_last': lambda: x.to(memory_format=torch.channels_last),
            'slice': lambda: torch.cat([x, x], 1)[:, 2:6],
            'transposed': lambda: x.transpose(2, 3),
            'expanded': lambda: x[:1].expand(3, -1, -1, -1),
        }[layout]()

    expected = run(
        lambda x, w, b: peripheral_conv2d(lay_out(x).contiguous(), w, grid, b, backend='dense'), (x, weight, bias)
    )
    actual = run(lambda x, w, b: peripheral_conv2d(lay_out(x), w, grid, b, backend=backend), (x, weight, bias))
    assert_same(actual, expected)


@pytest.mark.parametrize('backend', BACKENDS)
def test_autocast_casts_like_stock_convolution(backend):
    grid = GRIDS['13']
    x, weight, bias = problem(grid, (8, 8), torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        out = peripheral_conv2d(x, weight, grid, bias, backend=backend)
        stock = F.conv2d(x, grid.expand(weight), bias, padding=6, groups=3)
    assert out.dtype == stock.dtype == torch.bfloat16
    torch.testing.assert_close(out, stock, rtol=2e-2, atol=0.1)
    out.sum().backward()
    assert weight.grad.dtype == torch.float32
