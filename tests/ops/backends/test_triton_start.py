"""Launches that are only planned, and the tables that they read."""

import pytest
import torch

from pelk_mm.ops import SharingGrid, peripheral_conv2d
from pelk_mm.ops.backends import triton_launch, triton_tables
from pelk_mm.ops.backends.triton_start import INTERPRETER, Hardware, hardware_of, planned

pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')

SEGMENTS = SharingGrid.exponential(51).sizes
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'

H100 = Hardware((9, 0), 132)


def plan(shape, dtype=torch.bfloat16, hardware=H100):
    meta = torch.device('meta')
    x, grad = (torch.empty(shape, dtype=dtype, device=meta) for _ in range(2))
    weight = torch.empty(shape[1], 1, len(SEGMENTS), len(SEGMENTS), dtype=dtype, device=meta)
    tables = triton_tables.tables_of(SEGMENTS, SEGMENTS, meta)
    with planned(hardware) as launches:
        assert hardware_of(meta) == hardware
        output = triton_launch.forward(x, weight, SEGMENTS, SEGMENTS, None, tables)
        grads = triton_launch.backward(grad, x, weight, SEGMENTS, SEGMENTS, True, True, tables)
    assert output.shape == grads[0].shape == x.shape
    assert grads[1].shape == weight.shape
    return launches


def test_a_plan_has_every_launch_of_forward_and_backward():
    launches = plan((64, 46, 56, 56))
    assert all(launch.programs > 0 for launch in launches)
    assert all(set(launch.arguments) < set(launch.kernel.arg_names) for launch in launches)
    from pelk_mm.ops.backends import triton_kernels

    # compiled for where they start: of numbers the compiler learns nothing
    tensors = {name for launch in launches for name, value in launch.arguments.items() if torch.is_tensor(value)}
    assert tensors <= triton_kernels.TENSORS
    # the input's gradient is another forward pass
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ['shift_taps', 'correlate_bands', 'shift_taps', 'correlate_bands', 'band_gradient']


@pytest.mark.parametrize(
    ('shape', 'dtype', 'hardware', 'kernels'),
    [
        ((8, 4, 56, 56), torch.bfloat16, H100, ['band_gradient', 'correlate_bands', 'shift_taps']),
        ((8, 4, 56, 56), torch.bfloat16, Hardware((8, 0), 108), ['correlate_rows', 'shift_taps', 'weight_gradient']),
        ((8, 4, 56, 56), torch.float32, H100, ['correlate_rows', 'shift_taps', 'weight_gradient']),
        ((8, 4, 56, 55), torch.bfloat16, H100, ['correlate_rows', 'shift_taps', 'weight_gradient']),
        ((8, 4, 28, 28), torch.bfloat16, H100, ['correlate_rows', 'shift_taps', 'weight_gradient']),
        ((64, 4, 28, 28), torch.bfloat16, H100, ['correlate_maps', 'weight_gradient']),
    ],
    ids=str,
)
def test_formulations(shape, dtype, hardware, kernels):
    assert sorted({launch.kernel.fn.__name__ for launch in plan(shape, dtype, hardware)}) == kernels


def test_a_training_step_of_pelk_t_needs_nine_binaries():
    binaries = set()
    for channels, side in ((46, 56), (93, 28), (187, 14), (374, 7)):
        binaries |= {(launch.kernel, *launch.options.items()) for launch in plan((128, channels, side, side))}
    assert len(binaries) == 9


def test_programs_of_the_weight_gradient_follow_the_multiprocessors():
    few, many = (plan((64, 46, 56, 56), hardware=Hardware((9, 0), number))[-1] for number in (66, 132))
    assert few.programs < many.programs


def test_a_plan_ends_with_its_context():
    plan((1, 1, 8, 8))
    assert hardware_of(torch.device('meta')) == INTERPRETER
    x, weight = torch.empty(1, 1, 8, 8, device='meta'), torch.empty(1, 1, 1, 1, device='meta')
    tables = triton_tables.tables_of((1,), (1,), x.device)
    with pytest.raises(AssertionError, match='can only be planned'):
        triton_launch.forward(x, weight, (1,), (1,), None, tables)


def test_the_op_keeps_no_tensor_of_its_own(monkeypatch):
    """Within a CUDA graph's capture a tensor that the op allocated and kept would be given to others."""
    grid = SharingGrid.exponential(27)
    x, weight = (torch.randn(1, *size, device=DEVICE) for size in ((1, 6, 6), (grid.num_segments, grid.num_segments)))
    tables = triton_tables.tables_of(grid.sizes, grid.sizes, x.device)
    assert triton_tables.tables_of(grid.sizes, grid.sizes, x.device) is tables
    peripheral_conv2d(x, weight, grid, backend='triton')  # the trial has its own
    kept = list(triton_tables._kept)
    with monkeypatch.context() as patch:
        patch.setattr(triton_tables, 'tables_of', lambda *args: pytest.fail('made in the op'))
        triton_launch.forward(x, weight.unsqueeze(1), grid.sizes, grid.sizes, None, tables)
    # of a map of another size too: it reads part of the same tables
    low = x[..., :3, :]
    expected = peripheral_conv2d(low, weight, grid, backend='dense')
    torch.testing.assert_close(peripheral_conv2d(low, weight, grid, backend='triton'), expected)
    assert list(triton_tables._kept) == kept


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_tables_can_be_made_under_autocast(dtype, monkeypatch):
    monkeypatch.setattr(triton_tables, '_kept', {})
    with torch.autocast('cpu', dtype):
        made = triton_tables.tables_of(SEGMENTS, SEGMENTS, torch.device('cpu'))
    triton_tables._kept.clear()
    assert torch.equal(made, triton_tables.tables_of(SEGMENTS, SEGMENTS, torch.device('cpu')))


def test_tables_are_taken_apart_once():
    tables = triton_tables.tables_of(SEGMENTS, SEGMENTS, torch.device('cpu'))
    arguments = SEGMENTS, SEGMENTS, 30, 20
    first = triton_tables.Tables.of(tables, *arguments)
    assert triton_tables.Tables.of(tables, *arguments) is first
    # of a tensor that is another's, nothing is kept
    other = triton_tables.Tables.of(tables.clone(), *arguments)
    assert other is not first
    assert torch.equal(other.row_table, first.row_table)


def test_a_compiled_graph_takes_the_tables_as_constants():
    grid = SharingGrid.exponential(27)

    def function(x, weight):
        return peripheral_conv2d(x, weight, grid, backend='triton')

    x = torch.randn(1, 2, 9, 7, device=DEVICE, requires_grad=True)
    weight = torch.randn(2, grid.num_segments, grid.num_segments, device=DEVICE, requires_grad=True)
    compiled = torch.compile(function, backend='aot_eager', fullgraph=True, dynamic=False)
    results = [torch.autograd.grad(f(x, weight).square().sum(), (x, weight)) for f in (function, compiled)]
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(graph, eager)
