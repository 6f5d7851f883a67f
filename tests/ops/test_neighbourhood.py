"""The neighbourhood gather against a form that unfolds every window."""

import needs
import pytest
import torch

from pelk_mm.ops import neighbourhood_gather
from pelk_mm.ops.neighbourhood import DENSE_FACTOR, SMALL_MAP, relative_bias, window_starts
from pelk_mm.ops.observe import observe

# height, width, K: one window, small maps, strips, and maps above what one matrix serves
CASES = [(5, 5, 5), (7, 9, 3), (13, 7, 7), (3, 40, 3), (40, 3, 1), (14, 19, 3), (21, 33, 5)]


def unfolded(attention, value, kernel_size):
    """Every window by itself: the definition."""
    groups, (height, width) = attention.shape[1], value.shape[2:]
    value = value.unflatten(1, (groups, -1))
    rows = []
    for i in range(height):
        top = min(max(i - kernel_size // 2, 0), height - kernel_size)
        for j in range(width):
            left = min(max(j - kernel_size // 2, 0), width - kernel_size)
            window = value[..., top : top + kernel_size, left : left + kernel_size].flatten(3)
            rows.append((window * attention[:, :, None, i, j]).sum(3))
    return torch.stack(rows, dim=-1).flatten(1, 2).unflatten(2, (height, width))


def made_up(height, width, kernel_size, groups=2, channels=6, dtype=torch.float64):
    torch.manual_seed(0)
    attention = torch.randn(2, groups, height, width, kernel_size**2, dtype=dtype, requires_grad=True)
    value = torch.randn(2, channels, height, width, dtype=dtype, requires_grad=True)
    return attention, value


def test_both_forms_are_tested():
    dense = [height * width <= max(DENSE_FACTOR * k * k, SMALL_MAP) for height, width, k in CASES]
    assert sorted(set(dense)) == [False, True]


@pytest.mark.parametrize('case', CASES)
def test_output_and_gradients(case):
    attention, value = made_up(*case)
    ours, theirs = neighbourhood_gather(attention, value, case[2]), unfolded(attention, value, case[2])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    probe = torch.randn_like(ours)
    leaves = (attention, value)
    for got, expected in zip(
        torch.autograd.grad((ours * probe).sum(), leaves),
        torch.autograd.grad((theirs * probe).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('case', [(7, 9, 3), (14, 19, 3)])
def test_strided_arguments(case):
    attention, value = made_up(*case)
    expected = neighbourhood_gather(attention, value, case[2])
    strided = attention.permute(4, 0, 1, 2, 3).contiguous().permute(1, 2, 3, 4, 0)
    last = value.contiguous(memory_format=torch.channels_last)
    probe = torch.randn_like(expected).contiguous(memory_format=torch.channels_last)
    grads = [
        torch.autograd.grad(neighbourhood_gather(a, v, case[2]), (attention, value), probe)
        for a, v in ((attention, value), (strided, last))
    ]
    torch.testing.assert_close(neighbourhood_gather(strided, last, case[2]), expected)
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize('case', [(14, 14, 13), (21, 33, 5)])
def test_only_the_arguments_are_kept(case):
    attention, value = made_up(*case)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        neighbourhood_gather(attention, value, case[2])
    assert {tensor.data_ptr() for tensor in kept} == {attention.data_ptr(), value.data_ptr()}


@needs.library
@pytest.mark.parametrize('case', [(7, 9, 3), (14, 19, 3)])
def test_what_torch_watches(case):
    """torch.func sees every operation, and so does a compiler."""
    attention, value = made_up(*case)
    loss = lambda a, v: neighbourhood_gather(a, v, case[2]).square().sum()  # noqa: E731
    expected = torch.autograd.grad(loss(attention, value), (attention, value))
    torch.testing.assert_close(torch.func.grad(loss, (0, 1))(attention.detach(), value.detach()), expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, pytest.param(torch.float16, marks=needs.float16_on_cpu)])
@pytest.mark.parametrize('case', [(7, 9, 3), (14, 19, 3)])
def test_half_precision(case, dtype):
    attention, value = made_up(*case)
    low = neighbourhood_gather(attention.to(dtype), value.to(dtype), case[2])
    assert low.dtype == dtype
    expected = neighbourhood_gather(attention, value, case[2])
    assert (low - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.parametrize(('height', 'width', 'kernel_size'), [(5, 5, 5), (7, 9, 3), (4, 6, 1)])
def test_relative_bias(height, width, kernel_size):
    table = torch.randn(2, 2 * kernel_size - 1, 2 * kernel_size - 1)
    chosen = relative_bias(table, height, width, kernel_size)
    rows, columns = (window_starts(size, kernel_size, table.device).tolist() for size in (height, width))
    for i in range(height):
        for j in range(width):
            for a in range(kernel_size):
                for b in range(kernel_size):
                    step = rows[i] + a - i + kernel_size - 1, columns[j] + b - j + kernel_size - 1
                    assert torch.equal(chosen[:, i, j, a * kernel_size + b], table[:, step[0], step[1]])


def test_a_call_is_reported():
    attention, value = made_up(7, 9, 3)
    calls = []
    with observe(calls.append):
        neighbourhood_gather(attention, value, 3)
    (call,) = calls
    assert (call.operation, call.shape, call.kernel_size) == ('neighbourhood_gather', (2, 6, 7, 9), (3, 3))


A, V = torch.zeros(1, 2, 4, 5, 9), torch.zeros(1, 4, 4, 5)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ((A, V, 4), ValueError, 'kernel_size must be odd and positive, but got 4'),
        ((A, V, 5), ValueError, r'shape \(N, G, H, W, 25\) .* but got \(1, 2, 4, 5, 9\) and \(1, 4, 4, 5\)'),
        ((A, V[:, :3], 3), ValueError, 'G divide C'),
        ((A, V[..., :4], 3), ValueError, r'but got \(1, 2, 4, 5, 9\) and \(1, 4, 4, 4\)'),
        ((A[:, :, :2], V[:, :, :2], 3), ValueError, r'at most the height and width of value, \(2, 5\), but got 3'),
        ((A, V.double(), 3), TypeError, 'attention must have the dtype of value, torch.float64, but got torch.float32'),
        ((A.int(), V, 3), TypeError, 'attention must be a floating-point tensor, but got torch.int32'),
        ((A, None, 3), TypeError, 'value must be a floating-point tensor, but got NoneType'),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        neighbourhood_gather(*arguments)
