"""Deformable convolution against four explicit neighbours for each sample."""

import pytest
import torch

from pelk_mm.ops import dcnv3

CASES = [((5, 7), 2, 3), ((1, 1), 1, 3), ((4, 1), 3, 3), ((6, 6), 1, 5), ((3, 9), 2, 1)]


def explicit(value, offset, mask, kernel_size, offset_scale):
    """Sample by sample."""
    count, height, width, channels = value.shape
    taps = kernel_size**2
    groups = mask.shape[3] // taps
    value = value.unflatten(3, (groups, -1))
    offset, mask = offset.unflatten(3, (groups, taps, 2)), mask.unflatten(3, (groups, taps))
    out = torch.zeros_like(value)
    for n, i, j, g, p in torch.cartesian_prod(*map(torch.arange, (count, height, width, groups, taps))).tolist():
        x = j + offset_scale * (p // kernel_size - kernel_size // 2 + offset[n, i, j, g, p, 0])
        y = i + offset_scale * (p % kernel_size - kernel_size // 2 + offset[n, i, j, g, p, 1])
        left, top = x.detach().floor().int().item(), y.detach().floor().int().item()
        for row in (top, top + 1):
            for column in (left, left + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - (x - column).abs()) * (1 - (y - row).abs())
                    out[n, i, j, g] = out[n, i, j, g] + mask[n, i, j, g, p] * share * value[n, row, column, g]
    return out.flatten(3)


def made_up(size, groups, kernel_size, channels=6, dtype=torch.float64):
    torch.manual_seed(0)
    taps = groups * kernel_size**2
    shapes = (2, *size, channels), (2, *size, 2 * taps), (2, *size, taps)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize(('size', 'groups', 'kernel_size'), CASES)
@pytest.mark.parametrize('offset_scale', [1.0, 1.7])
def test_output_and_gradients(size, groups, kernel_size, offset_scale):
    arguments = made_up(size, groups, kernel_size)
    ours = dcnv3(*arguments, kernel_size=kernel_size, offset_scale=offset_scale)
    theirs = explicit(*arguments, kernel_size, offset_scale)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    probe = torch.randn_like(ours)
    for got, expected in zip(
        torch.autograd.grad((ours * probe).sum(), arguments),
        torch.autograd.grad((theirs * probe).sum(), arguments, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_half_precision_is_computed_in_float32():
    low = [tensor.bfloat16() for tensor in made_up((5, 7), 2, 3)]
    with torch.autocast('cpu', torch.bfloat16):
        out = dcnv3(*low)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, dcnv3(*[tensor.float() for tensor in low]).bfloat16())


VALUE, OFFSET, MASK = torch.zeros(1, 4, 5, 6), torch.zeros(1, 4, 5, 36), torch.zeros(1, 4, 5, 18)


@pytest.mark.parametrize(
    ('arguments', 'kwargs', 'error', 'message'),
    [
        ((VALUE, OFFSET, MASK), {'kernel_size': 2}, ValueError, 'kernel_size must be odd and positive, but got 2'),
        ((VALUE, OFFSET, MASK), {'offset_scale': '1'}, TypeError, 'offset_scale must be'),
        (
            (VALUE, OFFSET, MASK[..., :9]),
            {},
            ValueError,
            r'shapes \(N, H, W, 2 G k k\) .* got \(1, 4, 5, 36\) and \(1, 4, 5, 9\)',
        ),
        ((VALUE, OFFSET, MASK[..., :8]), {}, ValueError, 'but got'),
        ((VALUE[..., :5], OFFSET, MASK), {}, ValueError, r'value \(1, 4, 5, 5\) in G groups'),
        ((VALUE, OFFSET[:, :3], MASK), {}, ValueError, 'but got'),
        (
            (VALUE[0], OFFSET, MASK),
            {},
            TypeError,
            r'value must be a floating-point tensor of 4 dimensions, but got .*\(4, 5, 6\)',
        ),
        (
            (VALUE, OFFSET, None),
            {},
            TypeError,
            'mask must be a floating-point tensor of 4 dimensions, but got NoneType',
        ),
    ],
)
def test_bad_input(arguments, kwargs, error, message):
    with pytest.raises(error, match=message):
        dcnv3(*arguments, **kwargs)
