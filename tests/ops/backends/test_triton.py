"""The Triton kernels against float64: on a GPU where there is one, else in Triton's interpreter."""

import itertools
import sys
from pathlib import Path

import children
import pytest
import torch
from convolution_cases import GRIDS as SHARED_GRIDS
from convolution_cases import run as run_function
from torch.utils._python_dispatch import TorchDispatchMode

from pelk_mm.ops import SharingGrid, depthwise_conv2d, peripheral_conv2d
from pelk_mm.ops.backends import (
    choice,
    triton_bands,
    triton_launch,
    triton_rows,
    triton_start,
    triton_tables,
    triton_tiles,
)
from pelk_mm.ops.segments import reachable

pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
FLOAT32, FLOAT16, BFLOAT16 = torch.float32, torch.float16, torch.bfloat16

GRIDS = SHARED_GRIDS | {'dense-5': SharingGrid.dense(5), 'point': SharingGrid((1,))}
# single pixels, odd and even sides, stripes, widths of every tile, maps of several blocks, maps below the kernel
SIZES = [(1, 1), (1, 9), (7, 7), (3, 16), (15, 14), (31, 2), (9, 33), (4, 70)]
# (N, C, H, W), grid, dtype
CASES = [
    *(((1, 2, *size), grid, FLOAT32) for size, grid in itertools.product(SIZES, GRIDS) if size[0] * size[1] < 200),
    *(((2, 1, *size), grid, FLOAT32) for size in SIZES for grid in ('13', '101') if size[0] * size[1] >= 200),
    *(((2, 2, *size), '13', dtype) for size in SIZES for dtype in (FLOAT16, BFLOAT16)),
    *(((2, 1, 12, 24), grid, dtype) for grid in ('51', '101') for dtype in (FLOAT16, BFLOAT16)),
    # two and four elements at a time; kernels that reach over both borders of a map wider than a block
    *(((1, 2, 10, width), '13', BFLOAT16) for width in (14, 28)),
    *(((1, 1, 5, width), '101', dtype) for width in (84, 96) for dtype in (FLOAT32, BFLOAT16)),
    # batches large enough for the kernel that takes whole maps
    *(((33, 1, *size), grid, dtype) for size, grid, dtype in [
        ((7, 7), '13', FLOAT32), ((7, 7), '13', BFLOAT16), ((7, 7), '51', FLOAT16), ((1, 1), '13', FLOAT32),
        ((8, 8), '51', FLOAT32), ((6, 3), 'fig1a', FLOAT32), ((2, 9), '101', BFLOAT16)]),
    ((64, 1, 18, 16), '51', BFLOAT16),
    # window sums as products with bands: of maps that are staged whole, and in blocks of rows, of columns, of both
    *(((1, 2, *size), grid, dtype) for size, grid, dtype in [
        ((40, 56), '51', BFLOAT16), ((31, 42), '13', FLOAT16), ((24, 34), '101', BFLOAT16), ((64, 64), '13', BFLOAT16),
    ]),
    *(((2, 1, *size), grid, dtype) for size, grid, dtype in [
        ((70, 50), '51', FLOAT16), ((25, 72), '13', BFLOAT16)]),
    ((1, 1, 66, 130), '51', BFLOAT16),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _few_programs(monkeypatch):
    """The interpreter runs programs one by one: fewer, longer ones."""
    if DEVICE == 'cpu':
        monkeypatch.setattr(triton_start, 'INTERPRETER', triton_start.Hardware((9, 0), 2))


def draw(*shape, dtype=FLOAT32, seed=0):
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.to(DEVICE, dtype)


def problem(shape, k, dtype, bias_map=False):
    channels = shape[1]
    bias = draw(*shape[1:], dtype=dtype, seed=3) if bias_map else draw(channels, dtype=dtype, seed=3)
    return draw(*shape, dtype=dtype, seed=1), draw(channels, k, k, dtype=dtype, seed=2), bias


def run(tensors, cotangent, grid, backend):
    """Output and all gradients."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    return run_function(lambda x, w, b: peripheral_conv2d(x, w, grid, b, backend=backend), leaves, cotangent)


def check(tensors, cotangent, grid):
    """At most twice the largest error of stock convolutions in the same dtype."""
    dtype = tensors[0].dtype
    exact = run([t.double() for t in tensors], cotangent.double(), grid, 'dense')
    stock = run(tensors, cotangent, grid, 'dense')
    ours = run(tensors, cotangent, grid, 'triton')
    for key, value in exact.items():
        assert ours[key].dtype == dtype
        assert ours[key].shape == value.shape
        scale = value.abs().max()
        # numbers that stock hits exactly, on a single pixel say, may still be off by a rounding; so may a term of the
        # bias's gradient, a plain sum that nearly cancels
        terms = cotangent.double().abs().sum() / cotangent.shape[1] if key == 'd_bias' else scale
        floor = (2**-21 if dtype == FLOAT32 else torch.finfo(dtype).eps) * terms  # three passes of TF32 keep so much
        limit = 2 * torch.maximum((stock[key].double() - value).abs().max(), floor)
        error = (ours[key].double() - value).abs().max()
        assert error <= limit, f'{key}: {error / scale:.1e} of the largest, above {limit / scale:.1e}'


def test_there_are_enough_cases():
    assert len(CASES) >= 60


@pytest.mark.parametrize(('shape', 'grid', 'dtype'), CASES, ids=str)
def test_output_and_gradients(shape, grid, dtype):
    grid = GRIDS[grid]
    bias_map = shape[2] % 2 == 1
    tensors = problem(shape, grid.num_segments, dtype, bias_map)
    check(tensors, draw(*shape, dtype=dtype, seed=4), grid)


@pytest.mark.parametrize('dtype', [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize('grid', ['13', '101', 'dense-5'])
@pytest.mark.parametrize('size', [(1, 2), (3, 16), (15, 14), (31, 2), (4, 70)], ids=str)
def test_bands_on_maps_that_others_serve(size, grid, dtype, monkeypatch):
    for name in ('LEAST_WIDTH', 'LEAST_HEIGHT'):
        monkeypatch.setattr(triton_bands, name, 1)
    grid, shape = GRIDS[grid], (2, 2, *size)
    tensors = problem(shape, grid.num_segments, dtype)
    assert triton_bands.serves(tensors[0])
    check(tensors, draw(*shape, dtype=dtype, seed=4), grid)


@pytest.mark.parametrize('dtype', [FLOAT32, FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize('shape', [(2, 2, 20, 9), (1, 2, 9, 36), (1, 1, 12, 70), (1, 2, 1, 8)], ids=str)
def test_sums_of_rows(shape, dtype, monkeypatch):
    """The kernels that read sums computed beforehand, whatever the saving."""
    monkeypatch.setattr(triton_rows, '_sums_pay', lambda sizes, unit: True)
    grid = SharingGrid((19, 8, 2, 1, 1, 1, 2, 8, 19))
    check(problem(shape, grid.num_segments, dtype), draw(*shape, dtype=dtype, seed=4), grid)


def test_long_segments_read_sums():
    grid = SharingGrid.exponential(151, 7)
    assert triton_rows._sums_pay(reachable(grid.sizes, 56).sizes, 4)
    assert not triton_rows._sums_pay(GRIDS['51'].sizes, 4)
    assert not triton_rows._sums_pay(grid.sizes, 1)
    shape = (1, 1, 80, 4)
    check(problem(shape, grid.num_segments, FLOAT32), draw(*shape, seed=4), grid)


@pytest.mark.parametrize('dtype', [FLOAT32, FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize('kind', ['large mean', 'hot pixel', 'alternating signs'])
@pytest.mark.parametrize('shape', [(1, 2, 14, 15), (33, 1, 5, 6)], ids=['rows', 'maps'])
def test_adversarial_inputs(kind, shape, dtype):
    def adverse(seed):
        noise = draw(*shape, seed=seed)
        if kind == 'large mean':
            return noise + 1000
        if kind == 'hot pixel':
            spot = torch.zeros_like(noise)
            spot[..., shape[2] // 2, shape[3] // 3] = 1e4
            return spot
        rows, columns = (torch.arange(size, device=DEVICE) for size in shape[2:])
        return (1 - 2.0 * ((rows[:, None] + columns) % 2)) * (1 + 0.01 * noise)

    grid = GRIDS['51']
    weight, bias = problem(shape, grid.num_segments, dtype)[1:]
    # weights of a network's size: float16 holds outputs up to 65504
    tensors = (adverse(1).to(dtype), weight / 16, bias)
    check(tensors, adverse(4).to(dtype) / 16, grid)


@pytest.mark.parametrize('dtype', [FLOAT16, BFLOAT16], ids=str)
def test_window_sums_are_not_rounded_to_half_precision(dtype):
    """The stock convolution rounds its output alone: rounded window sums would err half as much again."""
    grid, shape = GRIDS['51'], (1, 2, 14, 15)
    x, weight, _ = problem(shape, grid.num_segments, dtype)
    exact, stock, ours = (
        peripheral_conv2d(x.to(kind), weight.to(kind), grid, backend=backend).double()
        for kind, backend in ((torch.float64, 'dense'), (dtype, 'dense'), (dtype, 'triton'))
    )
    mean_error = [(result - exact).abs().mean() for result in (ours, stock)]
    assert mean_error[0] <= 1.1 * mean_error[1]


def test_a_float16_window_does_not_overflow():
    """A window's sum lies beyond float16, the output does not."""
    grid = SharingGrid((31,))
    x = torch.full((1, 1, 16, 16), 6e4, dtype=FLOAT16, device=DEVICE)
    weight = torch.full((1, 1, 1), 1e-3, dtype=FLOAT16, device=DEVICE)
    expected = 6e4 * weight.double().item() * 256
    out = peripheral_conv2d(x, weight, grid, backend='triton')
    torch.testing.assert_close(out.double(), torch.full_like(out, expected).double(), rtol=1e-3, atol=0)


@pytest.mark.parametrize('shape', [(2, 2, 20, 16), (64, 2, 8, 8), (2, 2, 30, 40), (2, 2, 24, 70)], ids=str)
@pytest.mark.parametrize('value', [float('inf'), float('nan')])
def test_a_pixel_that_is_not_finite_stays_in_its_image_and_channel(shape, value):
    """Zeros of a band, or of a tile's other taps, meet it: its whole map may become NaN, no other does."""
    grid = GRIDS['13']
    x, weight, _ = problem(shape, grid.num_segments, BFLOAT16)
    clean = peripheral_conv2d(x, weight, grid, backend='triton')
    x[-1, 0, 3, 2] = value
    out = peripheral_conv2d(x, weight, grid, backend='triton')
    assert not out[-1, 0, 3, 2].isfinite()
    kept = torch.ones(shape[:2], dtype=torch.bool)
    kept[-1, 0] = False
    if triton_launch._takes_maps(x):  # images share a product
        kept[:, 0] = False
    assert torch.equal(out[kept], clean[kept])


@pytest.mark.parametrize('kernel', [(41, 3), (3, 41)])
def test_stripes_by_bands(kernel):
    tensors = [draw(1, 2, 26, 40, dtype=BFLOAT16, seed=1), draw(2, 1, *kernel, dtype=BFLOAT16, seed=2)]
    assert triton_bands.serves(tensors[0])
    results = []
    for backend, dtype in (('dense', torch.float64), ('triton', BFLOAT16)):
        leaves = [t.to(dtype).requires_grad_() for t in tensors]
        out = depthwise_conv2d(*leaves, backend=backend)
        results.append((out, *torch.autograd.grad(out, leaves, torch.ones_like(out))))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=2**-7, atol=2**-7 * expected.abs().max().item())


@pytest.mark.parametrize('kernel', [(21, 5), (5, 21), (1, 9), (3, 1)])
def test_dense_and_stripe_kernels(kernel):
    tensors = [draw(2, 2, 11, 18, seed=1), draw(2, 1, *kernel, seed=2), draw(2, seed=3)]
    results = []
    for backend, dtype in (('dense', torch.float64), ('triton', FLOAT32)):
        leaves = [t.to(dtype).requires_grad_() for t in tensors]
        out = depthwise_conv2d(*leaves, backend=backend)
        results.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    'layout', ['channels_last', 'channel slice', 'row slice', 'unaligned', 'transposed', 'expanded']
)
@pytest.mark.parametrize(('size', 'dtype'), [((9, 10), FLOAT32), ((34, 36), BFLOAT16)], ids=['rows', 'bands'])
def test_layouts(layout, size, dtype):
    grid = GRIDS['13']
    x, weight, bias = problem((2, 3, *size), grid.num_segments, dtype)
    around = torch.full((x.numel() + 2,), float('nan'), device=DEVICE, dtype=dtype)
    around[1:-1] = x.flatten()
    laid_out = {
        'channels_last': x.contiguous(memory_format=torch.channels_last),
        'channel slice': torch.cat([x, x], 1)[:, 2:5],
        'row slice': torch.nn.functional.pad(x, (0, 0, 2, 1), value=float('nan'))[:, :, 2:-1],
        'unaligned': around[1:-1].view_as(x),
        'transposed': x.transpose(2, 3),
        'expanded': x[:1].expand(3, -1, -1, -1),
    }[layout]
    expected = peripheral_conv2d(laid_out.contiguous().double(), weight.double(), grid, bias.double(), backend='dense')
    actual = peripheral_conv2d(laid_out, weight, grid, bias, backend='triton')
    rtol, atol = (1e-5, 1e-4) if dtype == FLOAT32 else (2**-8, 1e-3)
    torch.testing.assert_close(actual.double(), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ('shape', 'dtype'),
    [((2, 2, 9, 11), FLOAT32), ((33, 1, 5, 5), FLOAT32), ((1, 2, 25, 34), BFLOAT16), ((1, 1, 24, 66), BFLOAT16)],
    ids=['rows', 'maps', 'whole bands', 'bands'],
)
def test_every_element_is_written_and_nothing_beside_the_input_is_read(shape, dtype, monkeypatch):
    grid = GRIDS['51']
    tensors = list(problem(shape, grid.num_segments, dtype))
    numel = tensors[0].numel()
    # the input ends its allocation, and what lies before it is NaN
    allocation = torch.full((numel + 64,), float('nan'), device=DEVICE, dtype=dtype)
    allocation[64:] = tensors[0].flatten()
    tensors[0] = allocation[64:].view(shape)
    cotangent = draw(*shape, dtype=dtype, seed=4)
    expected = run([t.double() for t in tensors], cotangent.double(), grid, 'dense')

    def poisoned(function):
        return lambda *args, **kwargs: function(*args, **kwargs).fill_(float('nan'))

    monkeypatch.setattr(torch, 'empty_like', poisoned(torch.empty_like))
    monkeypatch.setattr(torch, 'empty', poisoned(torch.empty))
    leaves = [t.detach().requires_grad_() for t in tensors]
    out = peripheral_conv2d(leaves[0], leaves[1], grid, leaves[2], backend='triton')
    grads = torch.autograd.grad(out, leaves, cotangent)
    for value, actual in zip(expected.values(), (out, *grads), strict=True):
        largest = float(value.abs().max())
        torch.testing.assert_close(
            actual.double(), value, rtol=1e-4, atol=largest * (1e-5 if dtype == FLOAT32 else 1e-2)
        )


@pytest.mark.parametrize(('size', 'dtype'), [((30, 12), FLOAT32), ((30, 36), BFLOAT16)], ids=['rows', 'bands'])
def test_gradients_are_deterministic(size, dtype, monkeypatch):
    """Of parts of the sum in several programs."""
    monkeypatch.setattr(triton_start, 'INTERPRETER', triton_start.Hardware((9, 0), 4))
    grid = GRIDS['13']
    tensors = problem((8, 1, *size), grid.num_segments, dtype)
    cotangent = draw(8, 1, *size, dtype=dtype, seed=4)
    first, second = (run(tensors, cotangent, grid, 'triton') for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_gradient_of_another_layout_is_copied_once():
    input, weight, _ = problem((2, 3, 8, 12), 13, FLOAT32)
    grad = draw(2, 3, 8, 12, seed=4).to(memory_format=torch.channels_last)
    segments = SharingGrid.exponential(51).sizes
    with CopiesOf(grad) as copies:
        tables = triton_tables.tables_of(segments, segments, input.device)
        triton_launch.backward(grad, input, weight.unsqueeze(1), segments, segments, True, True, tables)
    assert copies.number == 1


class CopiesOf(TorchDispatchMode):
    """Counts the ops that copy a tensor as it lies in memory."""

    def __init__(self, tensor):
        super().__init__()
        self.pointer, self.number = tensor.data_ptr(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.clone.default, torch.ops.aten.copy_.default):
            self.number += any(isinstance(a, torch.Tensor) and a.data_ptr() == self.pointer for a in args)
        return function(*args, **(kwargs or {}))


def test_an_empty_batch():
    grid = GRIDS['13']
    tensors = problem((0, 2, 8, 8), grid.num_segments, FLOAT32)
    result = run(tensors, torch.empty(0, 2, 8, 8, device=DEVICE), grid, 'triton')
    assert result['output'].shape == (0, 2, 8, 8)
    assert not result['d_weight'].any()


def test_segments_that_only_meet_padding_cost_nothing():
    assert len(reachable(SharingGrid.exponential(101, 7).sizes, 4).sizes) == 7


def test_tf32_is_the_users_choice(monkeypatch):
    monkeypatch.setattr(triton_tiles, 'interpreting', lambda: False)
    matmul = torch.backends.cuda.matmul
    kept = matmul.allow_tf32
    try:
        for allowed, expected in ((False, 'tf32x3'), (True, 'tf32')):
            matmul.allow_tf32 = allowed
            assert triton_tiles.precision(FLOAT32) == expected
            assert triton_tiles.precision(BFLOAT16) == 'ieee'
    finally:
        matmul.allow_tf32 = kept


@pytest.mark.processes
@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, 'fp32_precision'), reason='this torch has the old name only'
)
def test_the_newer_name_of_tf32():
    """In a process of its own: torch does not go back from the newer name to the older."""
    code = (
        "import torch; torch.backends.cuda.matmul.fp32_precision = 'tf32'; "
        'from pelk_mm.ops.backends import triton_tiles as t; t.interpreting = lambda: False; '
        "assert t.precision(torch.float32) == 'tf32'"
    )
    done = children.run([sys.executable, '-c', code], cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr


def test_float64_is_refused_with_the_reason():
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64, device=DEVICE)
    message = "backend='triton' cannot run here: it computes float32, float16 and bfloat16, .* these can: dense, fft"
    with pytest.raises(RuntimeError, match=message):
        peripheral_conv2d(x, torch.zeros(1, 1, 1, dtype=torch.float64, device=DEVICE), GRIDS['point'], backend='triton')


@pytest.mark.skipif(DEVICE == 'cuda', reason='interprets on the CPU')
def test_the_interpreter_is_never_an_automatic_choice():
    grid = GRIDS['51']
    x = torch.zeros(1, 1, 56, 56)
    chosen = choice.choose_backend(choice.Problem(x, grid.sizes, grid.sizes, needs_grad=True))
    assert chosen.name != 'triton'
