"""The ``fft`` back-end: agreement with the reference, its error, its buffers and its tables."""

import needs
import pytest
import torch
from convolution_cases import GRIDS, assert_same, problem, run

from pelk_mm.ops import depthwise_conv2d, peripheral_conv2d
from pelk_mm.ops.backends import fft
from pelk_mm.ops.segments import reachable

# odd, single-pixel and stripe maps; maps smaller than the kernel
SIZES = [(1, 1), (1, 9), (7, 7), (15, 14), (31, 2), (56, 3), (40, 33)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def by(backend, grid):
    return lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend=backend)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', GRIDS)
def test_agrees_with_dense(name, size):
    tensors = problem(GRIDS[name], size)
    assert_same(run(by('fft', GRIDS[name]), tensors), run(by('dense', GRIDS[name]), tensors))


@pytest.mark.parametrize('batch', [1, 3, 4])
def test_images_go_in_pairs(batch):
    """An odd image has a plane of its own, and no image meets its neighbour."""
    grid = GRIDS['13']
    tensors = problem(grid, (11, 10), batch=batch)
    assert_same(run(by('fft', grid), tensors), run(by('dense', grid), tensors))


@pytest.mark.parametrize('kernel', [(51, 5), (5, 51), (1, 31), (31, 31), (51, 51), (3, 1)])
def test_dense_and_stripe_kernels(kernel):
    """With few segments by tables, with many by transforms of the kernel."""
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, 19, 26), (4, 1, *kernel), (4,)
    tensors = [torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes]
    results = [run(lambda *t, b=b: depthwise_conv2d(*t, backend=b), tensors) for b in ('fft', 'dense')]
    assert_same(*results)


def test_tables_equal_transforms_of_the_kernel(monkeypatch):
    grid = GRIDS['101']
    tensors = problem(grid, (12, 17))
    by_tables = run(by('fft', grid), tensors)
    monkeypatch.setattr(fft, 'MOST_TABLED', 0)
    assert_same(by_tables, run(by('fft', grid), tensors), tolerance=1e-12)


@pytest.mark.parametrize('frozen', ['input', 'weight', 'bias'])
def test_gradients_with_one_tensor_frozen(frozen):
    grid = GRIDS['13']
    tensors = dict(zip(['input', 'weight', 'bias'], problem(grid, (9, 9)), strict=True))
    tensors[frozen] = tensors[frozen].detach()
    wanted = [t for name, t in tensors.items() if name != frozen]
    grads = [
        torch.autograd.grad(by(backend, grid)(*tensors.values()).square().sum(), wanted) for backend in ('dense', 'fft')
    ]
    for expected, actual in zip(*grads, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def adverse(kind, shape, seed):
    noise = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if kind == 'large mean':
        return noise + 1000
    if kind == 'hot pixel':
        noise[..., shape[2] // 2, shape[3] // 3] = 1000
    if kind == 'alternating signs':
        rows, columns = (torch.arange(size) for size in shape[2:])
        return (1 - 2.0 * ((rows[:, None] + columns) % 2)) * (1 + 0.01 * noise)
    return noise


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('kind', ['noise', 'large mean', 'hot pixel', 'alternating signs'])
@pytest.mark.parametrize(('name', 'size'), [('13', (20, 23)), ('51', (56, 56)), ('101', (28, 28))])
def test_at_most_twice_the_error_of_stock(name, size, kind, dtype):
    """Against float64 on the same rounded numbers; output and all gradients."""
    grid = GRIDS[name]
    x, weight, bias = problem(grid, size, channels=4)
    shape = tuple(x.shape)
    # weights of a network's size: float16 holds outputs up to 65504
    exact = [t.detach().to(dtype).double().requires_grad_() for t in (adverse(kind, shape, 1), weight / 32, bias)]
    cotangent = (adverse(kind, shape, 2) / 32).to(dtype).double()
    reference = run(by('fft', grid), exact, cotangent)
    rounded = [t.detach().to(dtype).requires_grad_() for t in exact]
    stock, ours = (run(by(backend, grid), rounded, cotangent) for backend in ('dense', 'fft'))
    for key, value in reference.items():
        assert ours[key].dtype == dtype
        error, limit = ((result[key].double() - value).abs().max() for result in (ours, stock))
        if key == 'd_bias':  # a plain sum that nearly cancels: a rounding of its terms
            limit = torch.maximum(limit, torch.finfo(dtype).eps * cotangent.abs().sum((0, 2, 3)).max())
        assert error <= 2 * limit, f'{key}: {error:.1e} where stock has {limit:.1e}'


@pytest.mark.parametrize('name', ['51', '101'])
def test_float32_error_bar(name):
    x, weight, bias = (t.detach() for t in problem(GRIDS[name], (56, 56), torch.float32, channels=6))
    exact = by('fft', GRIDS[name])(x.double(), weight.double(), bias.double())
    error = (by('fft', GRIDS[name])(x, weight, bias).double() - exact).abs().max() / exact.abs().max()
    assert error < 2e-6


def test_writes_every_element(monkeypatch):
    """Buffers that start as NaN leave no trace, also where the channels do not divide into chunks."""
    grid = GRIDS['13']
    tensors = problem(grid, (11, 10), channels=5, batch=3)
    expected = run(by('dense', grid), tensors)
    period = fft.fast_length(17), fft.fast_length(16)
    # two channels, of two pairs of images each, a chunk
    monkeypatch.setitem(fft.CHUNK_BYTES, 'cpu', 2 * 2 * period[0] * period[1] * 16)

    def poisoned(like, memory_format):
        return torch.full(like.shape, float('nan'), dtype=like.dtype)

    monkeypatch.setattr(fft.torch, 'empty_like', poisoned)
    assert_same(run(by('fft', grid), tensors), expected)


@needs.library
def test_workspace_is_bounded():
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


def test_tables_made_in_inference_mode_serve_training():
    fft._kept_table.cache_clear()
    grid = GRIDS['51']
    tensors = problem(grid, (6, 7))
    with torch.inference_mode():
        by('fft', grid)(*tensors)
    assert fft._kept_table.cache_info().currsize > 0
    assert_same(run(by('fft', grid), tensors), run(by('dense', grid), tensors))


def test_a_table_is_the_spectrum_of_its_segments():
    axis = reachable((3, 1, 3), 20)
    table = fft._table(axis, 12, torch.complex128, torch.device('cpu'))
    for segment, taps in enumerate([(-3, -2, -1), (0,), (1, 2, 3)]):
        row = torch.zeros(12, dtype=torch.float64)
        row[list(taps)] = 1
        torch.testing.assert_close(table[:, segment], torch.fft.ifft(row))


def test_fast_lengths():
    lengths = {1: 4, 13: 16, 17: 24, 38: 48, 52: 56, 81: 84, 97: 108, 145: 160}
    assert {minimum: fft.fast_length(minimum) for minimum in lengths} == lengths


def test_an_image_does_not_meet_its_neighbour():
    """Also where one is a million times the other, in outputs and in gradients by the image."""
    grid = GRIDS['51']
    x, weight, bias = problem(grid, (20, 23), torch.float32, batch=3)
    cotangent = torch.randn(3, 3, 20, 23, generator=torch.Generator().manual_seed(5))
    sizes = torch.tensor([1e6, 1.0, 0.0]).view(3, 1, 1, 1)
    results = []
    for backend, dtype in (('dense', torch.float64), ('fft', torch.float32)):
        images = (x.detach() * sizes).to(dtype).requires_grad_()
        out = peripheral_conv2d(images, weight.detach().to(dtype), grid, backend=backend)
        results.append((out, *torch.autograd.grad(out, images, (cotangent * sizes.flip(0)).to(dtype))))
    for expected, actual in zip(*results, strict=True):
        for ours, exact in zip(actual, expected, strict=True):
            assert (ours.double() - exact).abs().max() <= 1e-6 * exact.abs().max()


def test_an_image_that_is_not_finite_leaves_its_neighbours_alone():
    grid = GRIDS['13']
    x, weight, bias = (t.detach() for t in problem(grid, (9, 9), torch.float32, batch=5))
    expected = peripheral_conv2d(x, weight, grid, bias, backend='fft')
    for value, image in ((float('nan'), 0), (float('inf'), 3), (float('nan'), 4)):
        x[image, 1, 2, 2] = value
    out = peripheral_conv2d(x, weight, grid, bias, backend='fft')
    spoiled = out.isfinite().flatten(2).all(2).logical_not()
    assert spoiled.nonzero().tolist() == [[0, 1], [3, 1], [4, 1]]
    torch.testing.assert_close(out[~spoiled], expected[~spoiled], rtol=1e-5, atol=1e-5)
