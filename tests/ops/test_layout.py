"""The layout ops in plain torch, as they run wherever Triton does not."""

import pytest
import torch
from torch.nn import functional as F

from pelk_mm.ops import join_norm, layout, open_block, set_backend, to_planes

LAYOUTS = ['contiguous', 'channels_last', 'slice']


def draw(*shape, dtype=torch.float64, seed=0, layout='contiguous'):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)
    if layout == 'slice':
        return torch.cat([x, x], 1).contiguous(memory_format=torch.channels_last)[:, : shape[1]]
    return x.contiguous(memory_format=torch.channels_last) if layout == 'channels_last' else x


@pytest.mark.parametrize('kind', LAYOUTS)
def test_to_planes(kind):
    x = draw(2, 5, 3, 4, layout=kind)
    assert to_planes(x, 2).is_contiguous()
    torch.testing.assert_close(to_planes(x, 2), x[:, :2], rtol=0, atol=0)


@pytest.mark.parametrize('kind', LAYOUTS)
def test_open_block_gives_views(kind):
    x = draw(2, 5, 3, 4, layout=kind).requires_grad_()
    planes, passed, residual = open_block(x, 2)
    assert passed.data_ptr() == x[:, 2:].data_ptr()
    assert residual.data_ptr() == x.data_ptr()
    torch.testing.assert_close(torch.cat([planes, passed], 1), x, rtol=0, atol=0)
    assert torch.autograd.gradcheck(lambda t: open_block(t, 2), (x,))


@pytest.mark.parametrize('width', [None, 8])
def test_join_norm_by_hand(width):
    mixed, passed = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1), torch.tensor([5.0, 7.0]).view(1, 2, 1, 1)
    out = join_norm(mixed, passed, torch.tensor([1.0, 1, 1, 2]), torch.tensor([0.0, 0, 1, 0]), 4.0, width)
    # mean 4, variance 5, and 5 + 4 = 9
    expected = torch.tensor([-1.0, -1 / 3, 4 / 3, 2.0])
    torch.testing.assert_close(out, F.pad(expected, (0, (width or 4) - 4)).view(1, 1, 1, -1))


@pytest.mark.parametrize('convolved', [2, 5])
def test_join_norm_is_a_layer_norm(convolved):
    x, weight, bias = draw(2, 5, 3, 4, layout='channels_last'), draw(5, seed=1), draw(5, seed=2)
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (5,), weight, bias, 1e-3)
    torch.testing.assert_close(join_norm(x[:, :convolved], x[:, convolved:], weight, bias, 1e-3), expected)


@pytest.mark.parametrize('width', [None, 8])
def test_gradients(width):
    tensors = [
        t.requires_grad_() for t in (draw(2, 2, 3, 2), draw(2, 3, 3, 2, seed=1), draw(5, seed=2), draw(5, seed=3))
    ]
    assert torch.autograd.gradcheck(lambda *t: join_norm(*t, 1e-3, width), tensors)
    assert torch.autograd.gradgradcheck(lambda *t: join_norm(*t, 1e-3, width), tensors)


def test_autocast_decides_the_dtype():
    x, weight = draw(2, 5, 3, 4, dtype=torch.float32), torch.ones(5)
    with torch.autocast('cpu', torch.bfloat16):
        planes, passed, residual = open_block(x, 2)
        rows = join_norm(planes, passed, weight, weight)
        exact = to_planes(x.double(), 2)
    dtypes = [t.dtype for t in (planes, passed, residual, rows, exact)]
    assert dtypes == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16, torch.float64]
    # rounded once, from float32
    expected = F.layer_norm(torch.cat([planes.float(), passed], 1).permute(0, 2, 3, 1), (5,), weight, weight)
    assert torch.equal(rows, expected.bfloat16())


def test_bad_arguments():
    x, weight = draw(2, 5, 3, 4), draw(5)
    with pytest.raises(ValueError, match=r'x must have shape \(N, C, H, W\) with H, W >= 1, but got \(5, 3, 4\)'):
        to_planes(x[0], 2)
    for channels in (0, 6):
        with pytest.raises(ValueError, match=f'channels must be 1 to 5, but got {channels}'):
            open_block(x, channels)
    with pytest.raises(ValueError, match=r'mixed and passed must be parts of \(N, 5, H, W\), but got .*2, 2, .*2, 2, '):
        join_norm(x[:, :2], x[:, 3:], weight, weight)
    with pytest.raises(ValueError, match=r'bias must have the shape of weight, \(5,\), but got \(4,\)'):
        join_norm(x[:, :2], x[:, 2:], weight, weight[1:])
    with pytest.raises(ValueError, match='width must be at least the 5 channels, but got 4'):
        join_norm(x[:, :2], x[:, 2:], weight, weight, width=4)


def test_why_the_kernels_are_refused():
    x = draw(2, 5, 3, 4, dtype=torch.float32)
    assert 'on cpu' in layout.refusal(x, 5, 2)
    try:
        set_backend('dense')
        assert layout.refusal(x, 5, 2) == "the back-end 'dense' is preferred"
        set_backend('triton')
        assert layout.refusal(x.double(), 5, 2) == (
            'they compute float32, float16 and bfloat16, but the rows are torch.float64'
        )
        assert 'is on meta' in layout.refusal(x.to('meta'), 5, 2)
    finally:
        set_backend(None)
