"""The ops as citizens of torch: registration, tracing, transforms, mixed precision, checkpoints, counting."""

import needs
import pytest
import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from pelk_mm.ops import SharingGrid, depthwise_conv2d, peripheral_conv2d, visible_sum
from pelk_mm.utils.compat import HAS_LIBRARY

SEGMENTS = (2, 1, 2)
GRID = SharingGrid(SEGMENTS)
WIDE = SharingGrid.exponential(51)
BIASES = {'none': None, 'vector': (5,), 'map': (5, 7, 9)}


def draw(*shape, dtype=torch.float64, seed=0, grad=True):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_(grad)


def images(layout, dtype, size=(7, 9)):
    """(2, 5, H, W), contiguous, channels last, or the first channels of more."""
    x = draw(2, 8 if layout == 'slice' else 5, *size, dtype=dtype, grad=False)
    if layout == 'channels_last':
        x = x.contiguous(memory_format=torch.channels_last)
    return x[:, :5].requires_grad_()


def peripheral(x, weight, bias=None, grid=GRID, backend='fft'):
    return peripheral_conv2d(x, weight, grid, bias, backend=backend)


def gradients(function, tensors, dtype=None):
    """Output and gradients under a fixed cotangent."""
    out = function(*tensors)
    for tensor in tensors:
        tensor.grad = None
    out.backward(draw(*out.shape, dtype=out.dtype, seed=9, grad=False))
    return out, *(tensor.grad for tensor in tensors)


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b)


@needs.library
@pytest.mark.parametrize('bias', BIASES)
@pytest.mark.parametrize(
    ('layout', 'dtype'),
    [('contiguous', torch.float32), ('channels_last', torch.float64), ('slice', torch.float64)],
    ids=str,
)
def test_registration(layout, dtype, bias):
    x, weight = images(layout, dtype), draw(5, 1, 3, 3, dtype=dtype)
    own = None if BIASES[bias] is None else draw(*BIASES[bias], dtype=dtype)
    arguments = (x, weight, SEGMENTS, SEGMENTS, own, 'fft')
    torch.library.opcheck(torch.ops.pelk_mm.shared_conv2d.default, arguments)


@needs.library
@pytest.mark.parametrize('mask', [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last', 'slice'])
def test_registration_of_the_gradients(layout, mask):
    x, weight = images(layout, torch.float64).detach(), draw(5, 1, 3, 3, grad=False)
    grad = draw(2, 5, 7, 9, grad=False)
    arguments = (grad, x, weight, SEGMENTS, SEGMENTS, 'fft', mask)
    torch.library.opcheck(torch.ops.pelk_mm.shared_conv2d_backward.default, arguments)


class Forwarding(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('grid', [GRID, WIDE], ids=['5', '51'])
def test_lazy_conjugation_is_never_relied_on(grid):
    """Within a dispatch mode, torch.compile's runtime for one, torch does not resolve lazy conjugates in an op."""
    k = grid.num_segments
    tensors = (images('contiguous', torch.float64), draw(5, k, k, seed=1))
    expected = gradients(lambda x, w: peripheral(x, w, grid=grid, backend='dense'), tensors)
    with Forwarding():
        actual = gradients(lambda x, w: peripheral(x, w, grid=grid), tensors)
    assert_same(actual, expected)


# --- torch.compile ----------------------------------------------------------------------------------------------------


class Graphs:
    """A compiler that runs what it is given, and keeps the names of the operations."""

    def __init__(self):
        self.names = []

    def __call__(self, graph, example_inputs):
        self.names.append({str(node.target) for node in graph.graph.nodes if node.op == 'call_function'})
        return graph


@needs.library
@pytest.mark.slow
@pytest.mark.parametrize('compiler', ['aot_eager', 'inductor'])
def test_compiled_output_and_gradients(compiler):
    """The first call of a compiled function runs in another mode than the later ones: both are compared."""
    torch._dynamo.reset()
    tensors = (images('slice', torch.float64, (20, 21)), draw(5, 3, 3, seed=1), draw(5, seed=2))
    compiled = torch.compile(peripheral, fullgraph=True, backend=compiler)
    expected = gradients(lambda *t: peripheral(*t, backend='dense'), tensors)
    assert_same(gradients(compiled, tensors), expected)
    assert_same(gradients(compiled, tensors), expected)


@needs.library
@pytest.mark.slow
@pytest.mark.parametrize(('backend', 'kept'), [('dense', False), ('fft', True), (None, True)])
def test_compiling_keeps_the_choice_of_back_end(backend, kept):
    """Torch's own answer to "is this an export" is yes while it compiles: the dense form must not follow from it."""
    torch._dynamo.reset()
    graphs = Graphs()
    compiled = torch.compile(peripheral, fullgraph=True, backend=graphs)
    x, weight = images('contiguous', torch.float32, (12, 13)), draw(5, 13, 13, dtype=torch.float32, seed=1)
    actual = gradients(lambda x, w: compiled(x, w, None, WIDE, backend), (x, weight))
    assert_same(actual, gradients(lambda x, w: peripheral(x, w, None, WIDE, backend), (x, weight)))
    assert any('shared_conv2d' in name for name in graphs.names[0]) == kept


@needs.library
@pytest.mark.slow
@pytest.mark.parametrize('backend', ['dense', 'fft'])
def test_one_graph_for_maps_of_all_sizes(backend):
    torch._dynamo.reset()
    graphs = Graphs()

    def both(x, weight, square):
        return peripheral(x, weight, None, WIDE, backend) + depthwise_conv2d(x, square, backend=backend)

    compiled = torch.compile(both, fullgraph=True, backend=graphs)
    weights = draw(5, 13, 13, seed=1, grad=False), draw(5, 1, 7, 11, seed=2, grad=False)
    for size in ((11, 12), (14, 13), (40, 61)):
        x = images('contiguous', torch.float64, size).detach()
        for dimension in (2, 3):
            torch._dynamo.mark_dynamic(x, dimension)
        torch.testing.assert_close(compiled(x, *weights), both(x, *weights))
    assert len(graphs.names) == 1


@needs.library
@pytest.mark.slow
def test_the_preference_and_the_log_do_not_break_the_graph(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setenv('PELK_MM_LOG', 'debug')
    graphs = Graphs()
    x, weight = images('contiguous', torch.float64).detach(), draw(5, 3, 3, grad=False)
    for preferred in ('fft', 'unknown'):
        monkeypatch.setenv('PELK_MM_BACKEND', preferred)
        compiled = torch.compile(lambda x, w: peripheral_conv2d(x, w, GRID), fullgraph=True, backend=graphs)
        torch.testing.assert_close(compiled(x, weight), peripheral(x, weight, backend='dense'))
    assert [any('shared_conv2d' in name for name in names) for names in graphs.names] == [True, False]


def test_autocast_does_not_reach_into_the_op():
    x, weight = images('contiguous', torch.float32), draw(5, 3, 3, dtype=torch.float32, seed=1)
    expected = peripheral(x.bfloat16(), weight.bfloat16())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(peripheral(x, weight), expected)


@needs.library
@pytest.mark.slow
def test_compiling_under_autocast():
    torch._dynamo.reset()
    x, weight = images('contiguous', torch.float32), draw(5, 3, 3, dtype=torch.float32, seed=1)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = torch.compile(peripheral, fullgraph=True, backend='aot_eager')(x, weight)
        torch.testing.assert_close(out, peripheral(x, weight))
    assert out.dtype == torch.bfloat16


# --- what torch cannot do with the op is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    'transform',
    [
        lambda f, x: torch.vmap(f)(torch.stack([x, x])),
        lambda f, x: torch.func.grad(lambda t: f(t).sum())(x),
        lambda f, x: torch.func.jvp(f, (x,), (x,)),
        lambda f, x: torch.func.jacrev(lambda t: f(t).sum((0, 2, 3)))(x),
    ],
    ids=['vmap', 'grad', 'jvp', 'jacrev'],
)
def test_function_transforms(transform):
    """Named, the back-end is refused; left to choose, the call takes one that has a way through."""
    x, weight = images('contiguous', torch.float64).detach(), draw(5, 13, 13, grad=False)
    named = "backend='fft' cannot run here: torch.func transforms .* cannot pass through its op; these can: dense"
    with pytest.raises(RuntimeError, match=named):
        transform(lambda t: peripheral(t, weight, grid=WIDE), x)
    actual = transform(lambda t: peripheral(t, weight, grid=WIDE, backend=None), x)
    torch.testing.assert_close(actual, transform(lambda t: peripheral(t, weight, grid=WIDE, backend='dense'), x))


@needs.library
def test_vmap_over_the_op_itself():
    x, weight = images('contiguous', torch.float64).detach(), draw(5, 1, 3, 3, grad=False)
    op = torch.ops.pelk_mm.shared_conv2d.default
    with pytest.raises(
        RuntimeError, match="cannot map .*: fold the mapped dimension into the batch, or name backend='d"
    ):
        torch.vmap(lambda t: op(t, weight, SEGMENTS, SEGMENTS, None, 'fft'))(torch.stack([x, x]))


def test_forward_mode_never_loses_a_tangent():
    x, weight = images('contiguous', torch.float64).detach(), draw(5, 3, 3, grad=False)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, x.flip(3))
        with pytest.raises(RuntimeError, match='fft.* its op has no forward-mode derivative .*; these can: dense'):
            peripheral(dual, weight)
        tangent = forward_ad.unpack_dual(peripheral(dual, weight, backend=None)).tangent
    torch.testing.assert_close(tangent, peripheral(x.flip(3), weight))


def test_second_derivatives():
    x, weight = images('contiguous', torch.float64), draw(5, 3, 3)

    def twice(backend):
        (first,) = torch.autograd.grad(peripheral(x, weight, backend=backend).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), weight)

    with pytest.raises(
        RuntimeError, match=r"cannot be differentiated again \(create_graph=True\): name backend='dense'"
    ):
        twice('fft')
    assert twice('dense')[0].isfinite().all()


@pytest.mark.skipif(HAS_LIBRARY, reason='a refusal of torch below 2.5')
def test_vectors_of_cotangents_are_refused_by_old_torch():
    x, weight = images('contiguous', torch.float64), draw(5, 3, 3)
    with pytest.raises(
        RuntimeError, match=r"is_grads_batched=True needs torch 2.5 here, but found .*: name backend='d"
    ):
        torch.autograd.grad(peripheral(x, weight), x, draw(3, 2, 5, 7, 9, seed=4, grad=False), is_grads_batched=True)


@pytest.mark.slow
@pytest.mark.skipif(HAS_LIBRARY, reason='what torch below 2.5 does instead')
def test_old_torch_compiles_around_the_convolution():
    x, weight = images('contiguous', torch.float32), draw(5, 3, 3, dtype=torch.float32)
    compiled = torch.compile(lambda x, w: peripheral(x * 2, w) + 1, backend='eager')
    assert_same(gradients(compiled, (x, weight)), gradients(lambda x, w: peripheral(x * 2, w) + 1, (x, weight)))


@needs.library
def test_vectors_of_cotangents():
    x, weight = images('contiguous', torch.float64), draw(5, 3, 3)
    cotangents = draw(3, 2, 5, 7, 9, seed=4, grad=False)
    actual, expected = (
        torch.autograd.grad(peripheral(x, weight, backend=b), (x, weight), cotangents, is_grads_batched=True)
        for b in ('fft', 'dense')
    )
    assert_same(actual, expected)


# --- training aids ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('backend', ['dense', 'fft'])
def test_autocast(backend):
    x, weight, bias = (draw(*s, dtype=torch.float32, seed=i) for i, s in enumerate([(2, 5, 9, 8), (5, 3, 3), (5,)]))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = peripheral(x, weight, bias, backend=backend)
        assert visible_sum(draw(5, 3, 3, dtype=torch.float32), (4, 4)).dtype == torch.float32
    assert out.dtype == torch.bfloat16
    grads = torch.autograd.grad(out.float().square().sum(), (x, weight, bias))
    assert [g.dtype for g in grads] == [torch.float32] * 3
    expected = torch.autograd.grad(peripheral(x, weight, bias).square().sum(), (x, weight, bias))
    for actual, exact in zip(grads, expected, strict=True):
        torch.testing.assert_close(actual, exact, rtol=0.05, atol=0.03 * exact.abs().max().item())


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_recomputing_the_op(use_reentrant):
    tensors = images('contiguous', torch.float64), draw(5, 3, 3), draw(5, seed=3)
    expected = gradients(peripheral, tensors)
    actual = gradients(lambda *t: checkpoint(peripheral, *t, use_reentrant=use_reentrant).clone(), tensors)
    assert_same(actual, expected)


def test_an_op_first_met_in_inference_mode_can_train():
    """Nothing that an op may keep for later calls of the same shape is an inference tensor."""
    x, weight = images('contiguous', torch.float64, (23, 29)), draw(5, 13, 13)
    for backend in ('dense', 'fft'):
        with torch.inference_mode():
            peripheral(x, weight, grid=WIDE, backend=backend)
        peripheral(x, weight, grid=WIDE, backend=backend).sum().backward()
    assert x.grad.isfinite().all()
