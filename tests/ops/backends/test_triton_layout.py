"""The Triton kernels between rows and planes against float64: on a GPU where there is one, else interpreted."""

import math

import pytest
import torch
from torch.autograd import forward_ad

from pelk_mm.ops import join_norm, layout, open_block, set_backend, to_planes
from pelk_mm.ops.backends import choice, layout_reference, triton_layout, triton_support

pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
FLOAT32, FLOAT16, BFLOAT16 = torch.float32, torch.float16, torch.bfloat16
DTYPES = [FLOAT32, FLOAT16, BFLOAT16]
# (N, C, H, W) and g: single pixels, odd sizes, several blocks of pixels and of channels, nothing passed, one convolved
CASES = [
    ((1, 3, 1, 1), 1),
    ((3, 13, 5, 7), 5),
    ((2, 5, 1, 33), 5),
    ((2, 124, 9, 8), 46),
    ((1, 249, 3, 7), 93),
    ((2, 499, 2, 5), 187),
    ((1, 998, 3, 3), 374),
    ((1, 1663, 1, 3), 623),
]


@pytest.fixture(autouse=True)
def _by_triton():
    set_backend('triton')
    yield
    set_backend(None)


def draw(*shape, dtype=FLOAT32, seed=0, last=False):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def parts(shape, g, rows=FLOAT32, planes=None, seed=0):
    """mixed, passed, weight, bias."""
    x = draw(*shape, dtype=rows, last=True, seed=seed)
    mixed = draw(shape[0], g, *shape[2:], dtype=planes or rows, seed=seed + 1)
    return mixed, x[:, g:], draw(shape[1], dtype=rows, seed=seed + 2), draw(shape[1], dtype=rows, seed=seed + 3)


def run(function, tensors, cotangent):
    """Output and gradients by name."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    out = function(*leaves)
    grads = torch.autograd.grad(out, leaves, cotangent.to(out.dtype))
    return {'output': out, **dict(zip(('d_mixed', 'd_passed', 'd_weight', 'd_bias'), grads, strict=True))}


def check(ours, stock, exact, terms=0.0):
    """At most twice the largest error of stock torch in the same dtypes, or a rounding of the value or of ``terms``."""
    for name, value in exact.items():
        assert ours[name].dtype == stock[name].dtype
        if not value.numel():
            continue
        floor = torch.finfo(ours[name].dtype).eps * max(value.abs().max().item(), terms)
        limit = 2 * max((stock[name].double() - value).abs().max().item(), floor)
        error = (ours[name].double() - value).abs().max()
        assert error <= limit, f'{name}: {error:.1e} above {limit:.1e}'


def stock_join_norm(dtype, width):
    """Concatenation and LayerNorm as torch computes them in a dtype."""

    def function(mixed, passed, weight, bias):
        rows = torch.cat([mixed.to(passed.dtype), passed], 1).permute(0, 2, 3, 1)
        rows = torch.nn.functional.layer_norm(rows, weight.shape, weight, bias, 1e-6).to(dtype)
        return torch.nn.functional.pad(rows, (0, width - rows.shape[-1]))

    return function


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize(('shape', 'g'), CASES, ids=str)
def test_join_norm(shape, g, dtype):
    tensors, width = parts(shape, g, dtype), -(-shape[1] // 8) * 8
    cotangent = draw(shape[0], *shape[2:], width, dtype=dtype, seed=7)
    assert layout.refusal(tensors[1], shape[1], g, dtype) is None
    ours = run(lambda *t: join_norm(*t, 1e-6, width), tensors, cotangent)
    stock = run(stock_join_norm(dtype, width), tensors, cotangent)
    exact = run(stock_join_norm(torch.float64, width), [t.double() for t in tensors], cotangent.double())
    check(ours, stock, exact, cotangent.abs().max().item())  # of few channels, the terms of a gradient nearly cancel
    assert not ours['output'][..., shape[1] :].any()
    assert ours['output'].is_contiguous()
    assert ours['d_mixed'].is_contiguous()
    assert ours['d_passed'].permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.parametrize('dtype', [FLOAT16, BFLOAT16], ids=str)
def test_under_autocast(dtype):
    """float32 rows and parameters, planes and output in half precision."""
    tensors = parts((2, 13, 5, 7), 5, FLOAT32, dtype)
    cotangent = draw(2, 5, 7, 13, dtype=dtype, seed=7)
    with torch.autocast(DEVICE, dtype):
        ours = run(lambda *t: join_norm(*t, 1e-6), tensors, cotangent)
    stock = run(stock_join_norm(dtype, 13), tensors, cotangent)
    exact = run(stock_join_norm(torch.float64, 13), [t.double() for t in tensors], cotangent.double())
    check(ours, stock, exact)
    assert [t.dtype for t in ours.values()] == [dtype, dtype, FLOAT32, FLOAT32, FLOAT32]


def test_a_large_mean_does_not_cancel():
    mixed, passed, *parameters = parts((1, 40, 4, 5), 15)
    tensors = (mixed + 1000, passed + 1000, *parameters)
    cotangent = draw(1, 4, 5, 40, seed=7)
    ours = run(lambda *t: join_norm(*t, 1e-6), tensors, cotangent)
    stock = run(stock_join_norm(FLOAT32, 40), tensors, cotangent)
    exact = run(stock_join_norm(torch.float64, 40), [t.double() for t in tensors], cotangent.double())
    check(ours, stock, exact, 1000 * math.log2(40) / 2)  # roundings of a sum of 40 such values, in any order


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize(('shape', 'g'), CASES, ids=str)
def test_open_block(shape, g, dtype):
    """float32 rows; the gradients of planes come in ``dtype``, and the sum is rounded once."""
    x = draw(*shape, last=True).requires_grad_()
    with torch.autocast(DEVICE, dtype, enabled=dtype != FLOAT32):
        planes, passed, residual = open_block(x, g)
    assert torch.equal(planes, x[:, :g].to(dtype))
    assert planes.is_contiguous()
    assert passed.data_ptr() == x[:, g:].data_ptr() or not passed.numel()
    grads = draw(*planes.shape, dtype=dtype, seed=1), draw(*passed.shape, seed=2, last=True), draw(*shape, seed=3)
    (grad,) = torch.autograd.grad((planes, passed, residual), x, grads)
    exact = torch.cat([grads[0].double(), grads[1].double()], 1) + grads[2].double()
    torch.testing.assert_close(grad, exact.float(), rtol=1e-6, atol=1e-6)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('given', [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_gradients_that_do_not_come_count_as_zero(given):
    x = draw(2, 13, 5, 3, last=True).requires_grad_()
    outputs, reference = open_block(x, 5), (x[:, :5], x[:, 5:], x)
    grads = [draw(*outputs[i].shape, seed=i) for i in given]
    (actual,) = torch.autograd.grad([outputs[i] for i in given], x, grads)
    (expected,) = torch.autograd.grad([reference[i] for i in given], x, grads)
    torch.testing.assert_close(actual, expected)
    assert actual.is_contiguous(memory_format=torch.channels_last)


def test_to_planes():
    x = draw(2, 70, 9, 8, last=True).requires_grad_()
    out = to_planes(x, 67)
    assert torch.equal(out, x[:, :67])
    cotangent = draw(*out.shape, seed=1)
    (grad,) = torch.autograd.grad(out, x, cotangent)
    assert torch.equal(grad, torch.nn.functional.pad(cotangent, (0, 0, 0, 0, 0, 3)))


def laid_out(x, kind):
    """The same image in another layout, and NaN around it."""
    n, c, h, w = x.shape
    nan = float('nan')
    around = torch.cat([torch.full((1,), nan, dtype=x.dtype, device=x.device), x.permute(0, 2, 3, 1).flatten()])
    return {
        'contiguous': x.contiguous(),
        'channel slice': torch.nn.functional.pad(x, (0, 0, 0, 0, 3, 2), value=nan).contiguous(
            memory_format=torch.channels_last
        )[:, 3 : 3 + c],
        'row slice': torch.nn.functional.pad(x, (0, 0, 2, 1), value=nan).contiguous(memory_format=torch.channels_last)[
            :, :, 2:-1
        ],
        'column slice': torch.nn.functional.pad(x, (1, 2), value=nan).contiguous(memory_format=torch.channels_last)[
            ..., 1:-2
        ],
        'transposed': x.transpose(2, 3).contiguous(memory_format=torch.channels_last).transpose(2, 3),
        'expanded': x[:1].expand(n, -1, -1, -1),
        'unaligned': around[1:].view(n, h, w, c).permute(0, 3, 1, 2),
    }[kind]


KINDS = ['contiguous', 'channel slice', 'row slice', 'column slice', 'transposed', 'expanded', 'unaligned']


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('shape', [(2, 7, 4, 3), (2, 7, 4, 1), (2, 7, 1, 1), (1, 1, 3, 4)], ids=str)
def test_layouts(kind, shape):
    x = laid_out(draw(*shape, last=True), kind)
    assert torch.equal(to_planes(x, 1), x[:, :1])
    mixed, weight, bias = draw(shape[0], 2, *shape[2:], seed=1), draw(shape[1] + 2, seed=2), draw(shape[1] + 2, seed=3)
    out, mean, rstd = triton_layout.join_norm(mixed, x, weight, bias, 1e-6, FLOAT32, shape[1] + 2, True)
    expected = layout_reference.join_norm(mixed, x, weight, bias, 1e-6, FLOAT32, shape[1] + 2)
    torch.testing.assert_close(out, expected)
    grads = triton_layout.join_norm_backward(draw(*out.shape), mixed, x, weight, mean, rstd, (True,) * 4)
    plain = triton_layout.join_norm_backward(draw(*out.shape), mixed, x.contiguous(), weight, mean, rstd, (True,) * 4)
    torch.testing.assert_close(grads, plain)
    total = triton_layout.open_block_backward(mixed[:, :1], x[:, 1:], x, shape, 1, FLOAT32)
    torch.testing.assert_close(total, torch.cat([mixed[:, :1], x[:, 1:]], 1) + x)


def test_every_element_is_written_and_nothing_beside_the_input_is_read(monkeypatch):
    shape, g = (2, 13, 5, 7), 5
    tensors = list(parts(shape, g, BFLOAT16))
    tensors[1] = laid_out(tensors[1], 'channel slice')
    tensors = [t.clone() if i != 1 else t for i, t in enumerate(tensors)]
    cotangent = draw(2, 5, 7, 16, dtype=BFLOAT16, seed=7)
    cotangent[..., 13:] = float('nan')  # the gradient of zeros says nothing
    x = laid_out(draw(*shape, last=True), 'channel slice')

    def poisoned(function):
        return lambda *args, **kwargs: function(*args, **kwargs).fill_(float('nan'))

    layout.refusal(tensors[1], 13, g, BFLOAT16)  # tried before
    monkeypatch.setattr(triton_layout.torch, 'empty_like', poisoned(torch.empty_like))
    monkeypatch.setattr(triton_layout.torch, 'empty', poisoned(torch.empty))
    out, mean, rstd = triton_layout.join_norm(*tensors, 1e-6, BFLOAT16, 16, True)
    grads = triton_layout.join_norm_backward(cotangent, *tensors[:3], mean, rstd, (True,) * 4)
    total = triton_layout.open_block_backward(None, grads[1], None, shape, g, FLOAT32)
    for value in (out, *grads, total, triton_layout.to_planes(x, g, FLOAT16)):
        assert value.isfinite().all()


@pytest.mark.parametrize('mask', [(True, True, False, False), (True, False, True, False), (False, False, False, True),
                                  (False, True, False, False)])  # fmt: skip
def test_only_what_is_needed(mask):
    tensors = parts((2, 13, 5, 7), 5)
    leaves = [t.detach().requires_grad_(needed) for t, needed in zip(tensors, mask, strict=True)]
    cotangent = draw(2, 5, 7, 13, seed=7)
    expected = run(stock_join_norm(FLOAT32, 13), tensors, cotangent)
    join_norm(*leaves, 1e-6).backward(cotangent)
    for leaf, needed, value in zip(leaves, mask, list(expected.values())[1:], strict=True):
        assert (leaf.grad is not None) == needed
        if needed:
            torch.testing.assert_close(leaf.grad, value, rtol=1e-4, atol=1e-5)


def test_gradients_are_deterministic():
    tensors, cotangent = parts((4, 40, 9, 9), 15), draw(4, 9, 9, 40, seed=7)
    first, second = (run(lambda *t: join_norm(*t, 1e-6), tensors, cotangent) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_empty_batch():
    x = draw(0, 13, 5, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.ones(13, device=DEVICE, requires_grad=True)
    planes, passed, residual = open_block(x, 5)
    rows = join_norm(planes, passed, weight, weight)
    (rows.sum() + residual.sum()).backward()
    assert rows.shape == (0, 5, 7, 13)
    assert x.grad.shape == x.shape
    assert not weight.grad.any()


# --- the ops as citizens of torch -------------------------------------------------------------------------------------


def test_registration():
    ops = torch.ops.pelk_mm
    x = draw(2, 13, 4, 3, last=True)
    mixed, passed, weight, bias = parts((2, 13, 4, 3), 5)
    torch.library.opcheck(ops.to_planes.default, (x.requires_grad_(), 5, BFLOAT16))
    leaves = [t.detach().requires_grad_() for t in (mixed, passed, weight, bias)]
    torch.library.opcheck(ops.join_norm.default, (*leaves, 1e-6, FLOAT32, 16, True))
    torch.library.opcheck(ops.join_norm.default, (mixed, passed, weight, bias, 1e-6, BFLOAT16, 13, False))
    mean = torch.zeros(24, device=DEVICE)
    for mask in ((True,) * 4, (True, False, False, True)):
        arguments = draw(2, 4, 3, 16), mixed, passed, weight, mean, mean + 1, mask
        torch.library.opcheck(ops.join_norm_backward.default, arguments)
    torch.library.opcheck(ops.open_block_backward.default, (mixed, None, x.detach(), (2, 13, 4, 3), 5, FLOAT32))


def test_second_derivatives_are_refused():
    x = draw(2, 13, 4, 3, last=True).requires_grad_()
    weight = torch.ones(13, device=DEVICE)
    message = r"cannot be differentiated again \(create_graph=True\): call pelk_mm.ops.set_backend\('dense'\)"
    for function in (
        lambda: to_planes(x, 5).pow(2),
        lambda: open_block(x, 5)[1].pow(2),
        lambda: join_norm(x[:, :5], x[:, 5:], weight, weight).pow(2),
    ):
        (first,) = torch.autograd.grad(function().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match=message):
            torch.autograd.grad(first.sum(), x)


def test_transforms_take_the_reference():
    x, weight = draw(2, 13, 4, 3, last=True), torch.ones(13, device=DEVICE)

    def norm(t):
        planes, passed, residual = open_block(t, 5)
        return join_norm(planes, passed, weight, weight).permute(0, 3, 1, 2) + residual

    grad = torch.func.grad(lambda t: norm(t).pow(3).sum())(x)
    leaf = x.clone().requires_grad_()
    norm(leaf).pow(3).sum().backward()
    torch.testing.assert_close(grad, leaf.grad, rtol=1e-4, atol=1e-4)
    with forward_ad.dual_level():
        assert forward_ad.unpack_dual(norm(forward_ad.make_dual(x, x))).tangent is not None
    with pytest.raises(RuntimeError, match='fold the mapped dimension into the batch'):
        torch.vmap(lambda t: torch.ops.pelk_mm.to_planes(t, 5, FLOAT32))(torch.stack([x, x]))


def test_vectors_of_cotangents():
    x, weight = draw(2, 13, 4, 3, last=True).requires_grad_(), torch.ones(13, device=DEVICE)
    planes, passed, residual = open_block(x, 5)
    out = join_norm(planes, passed, weight, weight).permute(0, 3, 1, 2) + residual
    cotangents = draw(3, *x.shape, seed=1)
    (together,) = torch.autograd.grad(out, x, cotangents, is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(out, x, c, retain_graph=True)[0] for c in cotangents]
    torch.testing.assert_close(together, torch.stack(one_by_one))


@pytest.mark.parametrize('failure', ['broken', 'wrong'])
def test_kernels_that_fail_their_trial_are_passed_over(failure, monkeypatch):
    monkeypatch.setattr(triton_support, '_verdicts', dict(triton_support._verdicts))
    monkeypatch.setattr(triton_support, '_failures', {})
    for key in [key for key in triton_support._verdicts if key[0] == 'layout']:
        del triton_support._verdicts[key]

    def to_planes_of_another_gpu(x, channels, dtype):
        if failure == 'broken':
            raise ValueError('no machine code\nfor this')
        return torch.zeros_like(x[:, :channels]).to(dtype)

    monkeypatch.setattr(triton_layout, 'to_planes', to_planes_of_another_gpu)
    x = draw(2, 13, 5, 7, last=True)
    reason = layout.refusal(x, 13, 5)
    assert (
        reason
        == {
            'broken': 'Triton failed on a trial: no machine code',
            'wrong': 'a trial of to_planes is wrong by 1e+00 of the largest value',
        }[failure]
    )
    assert torch.equal(to_planes(x, 5), x[:, :5])
    choice.warn_once.cache_clear()


@pytest.mark.parametrize('channels', [128, 512, 505])
def test_the_trial_is_of_the_tile_that_runs(channels, monkeypatch):
    tried, kept = set(), triton_layout._row_constants
    monkeypatch.setattr(triton_layout, '_row_constants', lambda block, tile: tried.add(block) or kept(block, tile))
    monkeypatch.setattr(
        triton_support, '_verdicts', {k: v for k, v in triton_support._verdicts.items() if k[0] != 'layout'}
    )
    x = draw(1, channels, 2, 2, last=True)
    assert layout.refusal(x, channels, 5) is None
    first = set(tried)
    join_norm(x[:, :5], x[:, 5:], draw(channels), draw(channels), 1e-6, -(-channels // 8) * 8)
    assert tried == first == {-(-channels // 128) * 128, triton_layout.BLOCK_CHANNELS}


def test_rows_padded_by_more_than_16_bytes_take_the_reference(monkeypatch):
    monkeypatch.setattr(triton_layout, 'join_norm', None)
    x, weight = draw(1, 13, 2, 2, last=True), draw(13)
    assert join_norm(x[:, :5], x[:, 5:], weight, weight, 1e-6, 40).shape == (1, 2, 2, 40)


def test_rows_that_do_not_fit_are_refused():
    x = draw(1, 2049, 1, 1)
    assert layout.refusal(x, 2049, 1) == 'they hold rows of at most 2048 channels, but there are 2049'
    huge = torch.empty(1, 1, 1, device=DEVICE).expand(16, 1 << 13, 1 << 13)[None]
    assert 'fewer than' in layout.refusal(huge, 16, 1)
