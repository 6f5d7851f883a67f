"""What observers are told of the public convolutions, and what they are not."""

import threading

import needs
import pytest
import torch

from pelk_mm.layers.mixers.shuffles import shuffle_tables
from pelk_mm.ops import (
    SharingGrid,
    available_backends,
    depthwise,
    depthwise_conv2d,
    peripheral_conv2d,
    shiftwise_conv2d,
    visible_sum,
)
from pelk_mm.ops.observe import inside, observe

GRID = SharingGrid((2, 1, 2))
X = torch.rand(2, 4, 9, 8)
TABLES = shuffle_tables(4, 5, 2)
# the call, the weight that it takes, and what it reports: shape and kernel size
CALLS = {
    'depthwise_conv2d': (lambda w, **k: depthwise_conv2d(X, w, **k), (4, 1, 3, 5), (2, 4, 9, 8), (3, 5)),
    'peripheral_conv2d': (lambda w, **k: peripheral_conv2d(X, w, GRID, **k), (4, 3, 3), (2, 4, 9, 8), (5, 5)),
    'shiftwise_conv2d': (lambda w, **k: shiftwise_conv2d(X, w, *TABLES, 13, **k), (4, 5, 3, 3), (2, 4, 9, 8), (13, 13)),
    'visible_sum': (lambda w: visible_sum(w, (9, 8)), (4, 5, 3), (4, 9, 8), (5, 3)),
}


def small():
    return depthwise_conv2d(X, torch.rand(4, 1, 3, 3))


@pytest.mark.parametrize('name', CALLS)
def test_each_op_reports_a_call_once(name):
    """Also shiftwise_conv2d, which calls another public op three times."""
    function, weight_shape, shape, kernel_size = CALLS[name]
    weight = torch.rand(weight_shape)
    expected = function(weight)
    calls = []
    with observe(calls.append):
        actual = function(weight)
    function(weight)
    (call,) = calls
    assert (call.operation, call.shape, call.kernel_size) == (name, shape, kernel_size)
    assert call.weight is weight
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)


@needs.library
@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('name', ['depthwise_conv2d', 'peripheral_conv2d', 'shiftwise_conv2d'])
def test_back_end_device_and_autocast_do_not_matter(name, device, autocast, monkeypatch):
    function, weight_shape, *_ = CALLS[name]
    x, tables = X.to(device), [table.to(device) for table in TABLES]
    monkeypatch.setitem(globals(), 'X', x)
    monkeypatch.setitem(globals(), 'TABLES', tables)
    weight = torch.rand(weight_shape, device=device)
    calls = []
    for backend in (None, 'dense', 'fft', *(['groups'] if name == 'shiftwise_conv2d' else [])):
        with observe(calls.append), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            function(weight, backend=backend)
    assert all(call.weight is weight for call in calls)
    assert len({(call.operation, call.shape, call.kernel_size) for call in calls}) == 1
    assert len(calls) == (4 if name == 'shiftwise_conv2d' else 3)


def test_observers_nest():
    outer, inner = [], []
    with observe(outer.append):
        small()
        with observe(inner.append):
            small()
        small()
    assert (len(outer), len(inner)) == (3, 1)
    assert outer[1] is inner[0]


def test_what_a_callback_calls_is_not_reported():
    calls = []

    def callback(call):
        assert inside()
        calls.append(call)
        small()

    with observe(callback):
        small()
        assert not inside()
    assert len(calls) == 1


def test_a_call_is_inside_while_it_computes(monkeypatch):
    seen, compute = [], depthwise.depthwise
    monkeypatch.setattr(depthwise, 'depthwise', lambda *args: seen.append(inside()) or compute(*args))
    with observe(lambda call: None):
        small()
    small()
    assert seen == [True, False]  # without an observer nobody asks


def test_exceptions_restore_the_state():
    calls = []

    def failing(call):
        raise KeyError(call.operation)

    with observe(calls.append):
        with pytest.raises(ValueError, match='backend must be one of'):
            depthwise_conv2d(X, torch.rand(4, 1, 3, 3), backend='tpu')
        with pytest.raises(KeyError, match='depthwise_conv2d'), observe(failing):
            small()
        assert not inside()
        assert len(calls) == 1  # the outer observer was told before the inner one failed
        small()
    small()
    assert len(calls) == 2


def test_another_thread_is_not_observed():
    calls, outputs = [], []
    with observe(calls.append):
        thread = threading.Thread(target=lambda: outputs.append((small(), inside())))
        thread.start()
        thread.join()
    assert not calls
    assert [was_inside for _, was_inside in outputs] == [False]


@needs.library
@pytest.mark.slow
@pytest.mark.parametrize('backend', [b for b in available_backends() if b != 'triton'])
def test_observers_do_not_reach_into_a_graph(backend):
    torch._dynamo.reset()
    weight, calls = torch.rand(4, 3, 3), []
    compiled = torch.compile(
        lambda x, w: peripheral_conv2d(x, w, GRID, backend=backend), fullgraph=True, backend='eager'
    )
    with observe(calls.append):
        out = compiled(X, weight)
    assert not calls
    torch.testing.assert_close(out, peripheral_conv2d(X, weight, GRID))
