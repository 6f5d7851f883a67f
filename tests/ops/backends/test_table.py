"""A back-end that registers itself serves calls by its name, with gradients of its own or torch's."""

import needs
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pelk_mm.ops import SharingGrid, available_backends, depthwise_conv2d, peripheral_conv2d, set_backend
from pelk_mm.ops.backends import dense, fft
from pelk_mm.ops.backends.table import BACKENDS, register

GRID = SharingGrid((2, 1, 2))


def refusal(problem):
    return None if problem.kernel_size == (5, 5) else 'it knows 5x5 alone'


@pytest.fixture(params=['by autograd', 'by its own'])
def toy(request):
    """A back-end 'toy'; the list of what it was called for."""
    calls = []

    def forward(*args):
        calls.append('forward')
        return (fft.forward if opaque else dense.depthwise_dense)(*args)

    def backward(*args):
        calls.append('backward')
        return fft.backward(*args)

    opaque = request.param == 'by its own'
    register('toy', forward, backward if opaque else None, refusal)
    yield calls
    set_backend(None)
    del BACKENDS['toy']
    assert available_backends() == ('dense', 'fft', 'triton')


def test_a_new_back_end_can_be_named(toy):
    assert available_backends() == ('dense', 'fft', 'triton', 'toy')
    x, weight = torch.rand(2, 4, 9, 8, requires_grad=True), torch.rand(4, 3, 3, requires_grad=True)
    results = []
    for backend in ('toy', 'dense'):
        out = peripheral_conv2d(x, weight, GRID, backend=backend)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, weight))))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)
    assert toy == ['forward'] + ['backward'] * (BACKENDS['toy'].backward is not None)


def test_a_new_back_end_can_be_preferred_and_refuses(toy):
    x, weight = torch.rand(1, 2, 9, 8), torch.rand(2, 1, 5, 5)
    set_backend('toy')
    depthwise_conv2d(x, weight)
    assert toy == ['forward']
    depthwise_conv2d(x, weight[..., 1:-1])
    assert toy == ['forward']
    with pytest.raises(RuntimeError, match="'toy' cannot run here: it knows 5x5 alone; these can: dense, fft"):
        depthwise_conv2d(x, weight[..., 1:-1], backend='toy')


class Names(TorchDispatchMode):
    """What torch dispatches."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@needs.library
def test_who_watches_sees_an_op_where_gradients_are_a_back_ends_own(toy):
    x, weight = torch.rand(1, 2, 9, 8), torch.rand(2, 1, 5, 5)
    with Names() as watching:
        watched = depthwise_conv2d(x, weight, backend='toy')
    torch.testing.assert_close(watched, depthwise_conv2d(x, weight, backend='toy'))
    assert ('pelk_mm::shared_conv2d' in watching.names) == (BACKENDS['toy'].backward is not None)


def test_names_are_new():
    before = dict(BACKENDS)
    with pytest.raises(ValueError, match="name must be new, but a back-end 'fft' is registered already"):
        register('fft', fft.forward, fft.backward, refusal)
    assert before == BACKENDS


def test_without_the_back_end_its_name_is_unknown():
    with pytest.raises(ValueError, match="backend must be one of 'dense', 'fft', 'triton', but got 'toy'"):
        depthwise_conv2d(torch.rand(1, 2, 9, 8), torch.rand(2, 1, 5, 5), backend='toy')
