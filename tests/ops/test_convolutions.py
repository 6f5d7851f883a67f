"""Both public convolutions against an independent formulation, on every back-end."""

import pytest
import torch
from torch.nn import functional as F

from pelk_mm.ops import SharingGrid, available_backends, depthwise_conv2d, peripheral_conv2d

BACKENDS = available_backends()
GRIDS = {
    'fig1a': SharingGrid((2, 1, 2)),
    '13': SharingGrid.exponential(13),
    '51': SharingGrid.exponential(51),
    '51-centre1': SharingGrid.exponential(51, 1),
    '101': SharingGrid.exponential(101, 7),
    'one-segment': SharingGrid((7,)),
    'dense-9': SharingGrid.dense(9),
}
# odd, single-pixel and stripe maps; maps smaller than the kernel
SIZES = [(1, 1), (1, 9), (7, 7), (15, 14), (31, 2), (56, 3), (40, 33)]


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


def problem(grid, size, dtype=torch.float64, batch=2, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()

    k = grid.num_segments
    return draw(batch, channels, *size), draw(channels, k, k), draw(channels)


def run(function, tensors, seed=1):
    """Output and gradients under a fixed random cotangent."""
    out = function(*tensors)
    generator = torch.Generator().manual_seed(seed)
    cotangent = torch.randn(out.shape, dtype=torch.float64, generator=generator).to(out.dtype)
    return {
        'output': out.detach(),
        **dict(zip(['d_input', 'd_weight', 'd_bias'], torch.autograd.grad(out, tensors, cotangent), strict=True)),
    }


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
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-9, atol=1e-9, msg=lambda m, key=key: f'{key}: {m}')


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', GRIDS)
def test_fft_agrees_with_dense(name, size):
    grid = GRIDS[name]
    tensors = problem(grid, size)
    expected = run(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend='dense'), tensors)
    actual = run(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend='fft'), tensors)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-9, atol=1e-9, msg=lambda m, key=key: f'{key}: {m}')


@pytest.mark.parametrize('kernel', [(51, 5), (5, 51), (1, 31), (31, 31), (3, 1)])
def test_depthwise_fft_agrees_with_dense_on_stripes(kernel):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 19, 26, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(4, 1, *kernel, dtype=torch.float64, generator=generator, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, generator=generator, requires_grad=True)
    expected = run(lambda *t: depthwise_conv2d(*t, backend='dense'), (x, weight, bias))
    actual = run(lambda *t: depthwise_conv2d(*t, backend='fft'), (x, weight, bias))
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-9, atol=1e-9, msg=lambda m, key=key: f'{key}: {m}')


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('with_bias', [True, False])
def test_gradcheck(backend, with_bias):
    grid = SharingGrid((3, 1, 1, 1, 3))
    x, weight, bias = problem(grid, (4, 7), channels=2)
    tensors = (x, weight, bias) if with_bias else (x, weight)

    def function(x, weight, bias=None):
        return peripheral_conv2d(x, weight, grid, bias, backend=backend)

    assert torch.autograd.gradcheck(function, tensors)


@pytest.mark.parametrize('frozen', ['input', 'weight', 'bias'])
def test_fft_gradients_with_one_tensor_frozen(frozen):
    grid = GRIDS['13']
    tensors = dict(zip(['input', 'weight', 'bias'], problem(grid, (9, 9)), strict=True))
    tensors[frozen] = tensors[frozen].detach()
    wanted = [t for name, t in tensors.items() if name != frozen]
    grads = [
        torch.autograd.grad(
            peripheral_conv2d(tensors['input'], tensors['weight'], grid, tensors['bias'], backend=b).square().sum(),
            wanted,
        )
        for b in BACKENDS
    ]
    for expected, actual in zip(*grads, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


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
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-9, atol=1e-9, msg=lambda m, key=key: f'{key}: {m}')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize('name', ['13', '51'])
def test_half_precision_within_twice_stock_error(name, dtype):
    """Against float64 on the same rounded numbers, no more than twice the error of F.conv2d in the same dtype."""
    grid = GRIDS[name]
    half = problem(grid, (20, 23), dtype, channels=4)
    exact = tuple(t.detach().double().requires_grad_() for t in half)
    reference = run(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend='dense'), exact)
    stock = run(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend='dense'), half)
    ours = run(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend='fft'), half)
    for key, value in reference.items():
        assert ours[key].dtype == dtype
        limit = 2 * (stock[key].double() - value).abs().max()
        assert (ours[key].double() - value).abs().max() <= limit, key


@pytest.mark.parametrize('shape', [(51, 5, 56), (101, 7, 56)])
def test_fft_fp32_error_bar(shape):
    kernel_size, central_size, side = shape
    grid = SharingGrid.exponential(kernel_size, central_size)
    x, weight, bias = (t.detach() for t in problem(grid, (side, side), torch.float32, channels=6))
    exact = peripheral_conv2d(x.double(), weight.double(), grid, bias.double(), backend='fft')
    error = (peripheral_conv2d(x, weight, grid, bias, backend='fft').double() - exact).abs().max() / exact.abs().max()
    assert error < 2e-6


def test_fft_writes_every_element(monkeypatch):
    """Buffers that start as NaN leave no trace, also where the channels do not divide into chunks."""
    from pelk_mm.ops import fft

    def poisoned(like, **kwargs):
        return torch.full(like.shape, float('nan'), dtype=like.dtype)

    grid = GRIDS['13']
    tensors = problem(grid, (11, 10), channels=5)
    expected = run(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend='dense'), tensors)
    monkeypatch.setattr(fft.torch, 'empty_like', poisoned)
    monkeypatch.setitem(fft.CHUNK_BYTES, 'cpu', 2 * 2 * 20 * 16 * 8)
    actual = run(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend='fft'), tensors)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-9, atol=1e-9)


def test_fft_workspace_is_bounded():
    """46 channels, batch 2, 200x336, K=51: at most 6 times the input's bytes above input and output."""
    grid = GRIDS['51']
    x = torch.randn(2, 46, 200, 336)
    weight = torch.randn(46, grid.num_segments, grid.num_segments)
    with torch.profiler.profile(profile_memory=True) as profiler, torch.no_grad():
        out = peripheral_conv2d(x, weight, grid, backend='fft')
    peak = held = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    input_bytes = x.numel() * x.element_size()
    assert peak >= out.numel() * out.element_size(), 'the profiler saw no allocation'
    assert peak - out.numel() * out.element_size() <= 6 * input_bytes


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
