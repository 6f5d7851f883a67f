"""Convolutions within windows against convolutions of the windows cut out."""

import pytest
import torch
from torch.nn import functional as F

from pelk_mm.ops import window_conv2d
from pelk_mm.ops.observe import observe

CASES = [((14, 14), 7), ((3, 5), 7), ((9, 17), 4), ((1, 1), 2), ((6, 5), 1), ((8, 13), 3)]


def cut(x, weight, window, bias):
    """Each window by itself, zeros around it."""
    height, width = x.shape[2:]
    x = F.pad(x, (0, -width % window, 0, -height % window))
    rows = []
    for i in range(0, x.shape[2], window):
        windows = (x[..., i : i + window, j : j + window] for j in range(0, x.shape[3], window))
        same = [F.conv2d(w, weight, bias, padding=window - 1, groups=x.shape[1]) for w in windows]
        rows.append(torch.cat(same, dim=3))
    return torch.cat(rows, dim=2)[..., :height, :width]


@pytest.mark.parametrize(('size', 'window'), CASES)
@pytest.mark.parametrize('biased', [False, True])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_output_and_gradients(size, window, biased, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(3, 1, 2 * window - 1, 2 * window - 1, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True) if biased else None
    ours, theirs = window_conv2d(x, weight, window, bias), cut(x, weight, window, bias)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    leaves = [x, weight, *([bias] if biased else [])]
    probe = torch.randn_like(ours)
    for got, expected in zip(
        torch.autograd.grad((ours * probe).sum(), leaves),
        torch.autograd.grad((theirs * probe).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_autocast_and_empty_batches():
    x, weight = torch.randn(2, 3, 9, 9), torch.randn(3, 1, 7, 7)
    with torch.autocast('cpu', torch.bfloat16):
        low = window_conv2d(x, weight, 4)
    assert low.dtype == torch.bfloat16
    expected = window_conv2d(x, weight, 4)
    assert (low - expected).abs().max() < 0.05 * expected.abs().max()
    assert window_conv2d(x[:0], weight, 4).shape == (0, 3, 9, 9)


def test_a_call_is_reported():
    calls, weight = [], torch.randn(3, 1, 7, 7)
    with observe(calls.append):
        window_conv2d(torch.randn(2, 3, 9, 9), weight, 4)
    (call,) = calls
    assert (call.operation, call.shape, call.kernel_size) == ('window_conv2d', (2, 3, 9, 9), (4, 4))
    assert call.weight is weight


X, W = torch.zeros(1, 2, 4, 4), torch.zeros(2, 1, 3, 3)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ((X, W, 0), ValueError, 'window_size must be .* but got 0'),
        ((X, W, 2.0), TypeError, 'window_size must be an int'),
        ((X, W, 3), ValueError, r'shape \(C, 1, 5, 5\) for window_size=3, and bias .* got \(2, 1, 3, 3\) and None'),
        ((X, W, 2, torch.zeros(2, 4, 4)), ValueError, r'and bias \(C,\), but got \(2, 1, 3, 3\) and \(2, 4, 4\)'),
        ((X, W.double(), 2), TypeError, 'weight must have the dtype of input'),
        ((X[0], W, 2), ValueError, r'input must have shape \(N, C, H, W\)'),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        window_conv2d(*arguments)
