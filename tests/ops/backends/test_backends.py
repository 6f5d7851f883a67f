import dataclasses
import logging
import time
from contextlib import nullcontext

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from pelk_mm.ops import SharingGrid, available_backends, depthwise_conv2d, peripheral_conv2d, set_backend
from pelk_mm.ops.backends import choice, triton_start, triton_support
from pelk_mm.ops.backends.choice import Problem, choose_backend
from pelk_mm.ops.backends.dense import depthwise_dense


@pytest.fixture(autouse=True)
def _no_preference(monkeypatch):
    monkeypatch.delenv('PELK_MM_BACKEND', raising=False)
    monkeypatch.delenv('PELK_MM_LOG', raising=False)
    choice.warn_once.cache_clear()
    yield
    set_backend(None)


def problem(kernel_size=(51, 51), needs_grad=False, side=56, dtype=torch.float32):
    rows, columns = ((1,) * size for size in kernel_size)
    return Problem(torch.zeros(1, 2, side, side, dtype=dtype), rows, columns, needs_grad)


@pytest.fixture
def broken_fft(monkeypatch):
    """An ``fft`` back-end that refuses everything."""
    fft = dataclasses.replace(choice.BACKENDS['fft'], refusal=lambda problem: 'no transforms here')
    monkeypatch.setitem(choice.BACKENDS, 'fft', fft)


def test_automatic_choice():
    assert choose_backend(problem()).name == 'fft'
    assert choose_backend(problem((5, 5), needs_grad=True)).name == 'dense'
    assert choose_backend(problem((13, 13))).name == 'dense'
    assert choose_backend(problem((13, 13), needs_grad=True)).name == 'fft'
    assert choose_backend(problem((5, 51))).name == 'dense'
    assert choose_backend(problem((5, 51), needs_grad=True)).name == 'fft'
    assert choose_backend(problem((7, 51))).name == 'fft'
    assert choose_backend(problem(side=14)).name == 'dense'
    assert choose_backend(problem(side=14, needs_grad=True)).name == 'fft'


def test_a_named_backend_that_cannot_run_raises_with_the_reason(broken_fft):
    with pytest.raises(RuntimeError, match="backend='fft' cannot run here: no transforms here; these can: dense.*"):
        choose_backend(problem(), 'fft')


def test_none_never_fails(broken_fft):
    assert choose_backend(problem()).name == 'dense'


def test_preferences_and_their_order(monkeypatch):
    monkeypatch.setenv('PELK_MM_BACKEND', 'dense')
    assert choose_backend(problem()).name == 'dense'
    set_backend('fft')
    assert choose_backend(problem((3, 3))).name == 'fft'
    assert choose_backend(problem(), 'dense').name == 'dense'


def test_a_preference_falls_back_with_one_logged_reason(broken_fft, monkeypatch, caplog):
    monkeypatch.setenv('PELK_MM_BACKEND', 'fft')
    with caplog.at_level(logging.WARNING, logger='pelk_mm'):
        for _ in range(3):
            assert choose_backend(problem()).name == 'dense'
    assert [r.message for r in caplog.records] == ["preferred back-end 'fft' is passed over: no transforms here"]


def test_an_unknown_preference(monkeypatch, caplog):
    with pytest.raises(ValueError, match="name must be one of 'dense', 'fft', 'triton', but got 'tpu'"):
        set_backend('tpu')
    monkeypatch.setenv('PELK_MM_BACKEND', 'tpu')
    with caplog.at_level(logging.WARNING, logger='pelk_mm'):
        assert choose_backend(problem()).name == 'fft'
    assert "'tpu' is passed over: unknown, choose from 'dense', 'fft', 'triton'" in caplog.text


def test_debug_log_explains_the_choice(monkeypatch, caplog):
    monkeypatch.setenv('PELK_MM_LOG', 'debug')
    with caplog.at_level(logging.DEBUG, logger='pelk_mm'):
        depthwise_conv2d(torch.zeros(1, 2, 9, 9), torch.zeros(2, 1, 3, 3))
    assert 'backend dense for input (1, 2, 9, 9) torch.float32, kernel (3, 3)' in caplog.text


def test_names():
    assert available_backends() == ('dense', 'fft', 'triton')


class OnCuda:
    """What a choice asks of an input on a GPU."""

    def __init__(self, side, dtype=torch.float32):
        self.shape, self.dtype, self.device, self.is_cuda = (1, 2, side, side), dtype, torch.device('cuda', 0), True


def on_cuda(kernel_size=(51, 51), side=56, dtype=torch.float32):
    rows, columns = ((1,) * size for size in kernel_size)
    return Problem(OnCuda(side, dtype), rows, columns, needs_grad=True)


@pytest.fixture
def triton_says(monkeypatch):
    """Sets what the trial of the triton back-end found."""

    def says(reason):
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
        monkeypatch.setattr(triton_support, 'settled', lambda key, attempt: reason)

    return says


def test_large_kernels_on_cuda_take_triton(triton_says):
    triton_says(None)
    assert choose_backend(on_cuda()).name == 'triton'
    assert choose_backend(on_cuda((5, 51), dtype=torch.bfloat16)).name == 'triton'
    assert choose_backend(on_cuda((5, 5))).name == 'triton'
    assert choose_backend(on_cuda((3, 3))).name == 'dense'
    assert choose_backend(on_cuda(side=2)).name == 'dense'
    assert choose_backend(on_cuda(dtype=torch.float64)).name == 'fft'
    assert choose_backend(on_cuda((13, 13), dtype=torch.float64)).name == 'dense'


def test_a_broken_triton_falls_back_with_one_logged_reason(triton_says, caplog):
    triton_says('triton is not installed')
    with caplog.at_level(logging.WARNING, logger='pelk_mm'):
        for _ in range(3):
            assert choose_backend(on_cuda()).name == 'fft'
            assert choose_backend(on_cuda((13, 13))).name == 'dense'
    message = "back-end 'triton', the fastest for this call, is passed over: triton is not installed"
    assert [r.message for r in caplog.records] == [message]
    with pytest.raises(RuntimeError, match="'triton' cannot run here: triton is not installed; these can: dense, fft"):
        choose_backend(on_cuda(), 'triton')


@pytest.fixture
def fresh_trial(monkeypatch):
    """Nothing is known of any device; returns what a trial in float32 on the CPU finds."""
    monkeypatch.setattr(triton_support, '_verdicts', {})
    monkeypatch.setattr(triton_support, '_failures', {})
    return lambda: triton_support.installation_refusal('cpu', None, torch.float32)


@pytest.mark.parametrize(
    ('forward', 'finding'),
    [
        (lambda input, *args: input, 'its trial is wrong by'),
        (lambda input, *args: input * float('nan'), 'its trial is wrong by inf of the largest value'),
    ],
)
def test_a_trial_that_is_wrong_is_a_reason_for_good(fresh_trial, monkeypatch, forward, finding):
    pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')
    with monkeypatch.context() as patch:
        patch.setattr(triton_support.triton_launch, 'forward', forward)
        patch.setattr(triton_support.triton_launch, 'backward', lambda *args: (None, None))
        assert fresh_trial().startswith(finding)
    assert fresh_trial().startswith(finding)


def test_a_trial_that_raises_is_made_again_later(fresh_trial, monkeypatch):
    pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')
    now, tries = [100.0], []

    def forward(*args):
        tries.append(now[0])
        raise OSError('no space left on device')

    monkeypatch.setattr(triton_support.time, 'monotonic', lambda: now[0])
    launch = triton_support.triton_launch
    with monkeypatch.context() as patch:
        patch.setattr(launch, 'forward', forward)
        for now[0] in (100.0, 100.5, 109.0, 111.0, 130.0, 132.0):
            assert fresh_trial() == 'Triton failed on a trial: no space left on device'
    assert tries == [100.0, 111.0, 132.0]  # after 10 s, then 20 s, and not at every call
    now[0] += 100
    monkeypatch.setattr(launch, 'forward', lambda input, weight, *args: depthwise_dense(input, weight, *args[:3]))
    monkeypatch.setattr(launch, 'backward', lambda *args: (None, None))
    assert fresh_trial() is None


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_a_trial_within_a_checkpoint_is_no_part_of_it(fresh_trial, use_reentrant):
    """It happens in the first of two forward passes, which must save as many tensors as the second."""
    pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'  # interpreted there
    x, weight = (torch.randn(1, *size, device=device, requires_grad=True) for size in ((1, 6, 7), (3, 3)))

    def convolve(x, weight):
        return peripheral_conv2d(x, weight, SharingGrid((2, 1, 2)), backend='triton')

    checkpoint(convolve, x, weight, use_reentrant=use_reentrant).sum().backward()
    assert triton_support._verdicts
    assert x.grad.isfinite().all()


@pytest.fixture
def sm_90(fresh_trial, monkeypatch):
    """A GPU that compiles nothing; returns a function that says whether a graph is being captured."""
    pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    monkeypatch.setattr(triton_start, '_cuda_hardware', lambda device: triton_start.Hardware((9, 0), 132))
    monkeypatch.setattr(torch.cuda, 'device', lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, 'is_initialized', lambda: True)
    monkeypatch.setattr(triton_start.Launch, 'compile', lambda launch: None)

    def capturing(answer):
        monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: answer)

    capturing(False)
    return capturing


def test_nothing_is_tried_in_a_graph_capture(sm_90, monkeypatch):
    sm_90(True)
    monkeypatch.setattr(triton_support, '_error', lambda *args: pytest.fail('a trial'))
    place = 'cuda', 0, torch.float32
    assert 'nothing can be tried: make the same call once before' in triton_support.installation_refusal(*place)
    sm_90(False)
    monkeypatch.setattr(triton_support, '_error', lambda *args: 0.0)
    assert triton_support.installation_refusal(*place) is None  # the capture's answer was not kept
    sm_90(True)
    assert triton_support.installation_refusal(*place) is None


SEGMENTS = (2, 1, 2)
CALL = 0, torch.bfloat16, (2, 3, 40, 56), SEGMENTS, SEGMENTS


def test_every_kernel_of_a_call_is_compiled_before_it(sm_90, monkeypatch):
    compiled = []
    monkeypatch.setattr(triton_start.Launch, 'compile', lambda launch: compiled.append(launch.kernel.fn.__name__))
    assert triton_support.compile_refusal(*CALL, has_bias=True, needs_grad=False) is None
    assert compiled == ['shift_taps', 'correlate_bands']
    assert triton_support.compile_refusal(*CALL, has_bias=True, needs_grad=False) is None
    assert len(compiled) == 2  # once for a call
    assert triton_support.compile_refusal(*CALL, has_bias=True, needs_grad=True) is None
    assert compiled[2:] == [*['shift_taps', 'correlate_bands'] * 2, 'band_gradient']


def test_a_kernel_that_cannot_be_compiled_is_a_reason_that_may_pass(sm_90, monkeypatch):
    def fail(launch):
        raise RuntimeError('ptxas died\nof something')

    with monkeypatch.context() as patch:
        patch.setattr(triton_start.Launch, 'compile', fail)
        reason = triton_support.compile_refusal(*CALL, has_bias=False, needs_grad=True)
        assert reason == 'Triton failed on a trial: ptxas died'
    assert triton_support.compile_refusal(*CALL, has_bias=False, needs_grad=True) == reason  # not at every call
    later = time.monotonic() + triton_support.RETRY_AFTER + 1
    monkeypatch.setattr(triton_support.time, 'monotonic', lambda: later)
    assert triton_support.compile_refusal(*CALL, has_bias=False, needs_grad=True) is None


def test_a_graph_capture_takes_what_was_called_before_only(sm_90, monkeypatch):
    monkeypatch.setattr(triton_support, 'has_tables', lambda *key: True)
    sm_90(True)
    reason = triton_support.compile_refusal(*CALL, has_bias=False, needs_grad=False)
    assert 'it has not been tried yet' in reason
    sm_90(False)
    assert triton_support.compile_refusal(*CALL, has_bias=False, needs_grad=False) is None
    sm_90(True)
    assert triton_support.compile_refusal(*CALL, has_bias=False, needs_grad=False) is None
    monkeypatch.setattr(triton_support, 'has_tables', lambda *key: False)
    assert 'tables of this kernel' in triton_support.compile_refusal(*CALL, has_bias=False, needs_grad=False)


def test_a_missing_triton_is_a_reason(fresh_trial, monkeypatch):
    monkeypatch.setattr(triton_support, 'find_spec', lambda name: None)
    assert fresh_trial() == 'triton is not installed'


def test_a_cpu_without_the_interpreter_is_refused_by_name(monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    with pytest.raises(RuntimeError, match="'triton' cannot run here: it needs a CUDA tensor, but the input is on cpu"):
        choose_backend(problem(), 'triton')


def test_the_log_gives_the_reason(monkeypatch, caplog):
    monkeypatch.setenv('PELK_MM_LOG', 'debug')
    with caplog.at_level(logging.DEBUG, logger='pelk_mm'):
        choose_backend(problem())
        choose_backend(problem(side=14))
    assert 'at least 256 taps and 400 pixels, in wide rows' in caplog.text
    assert 'fewer than 400 pixels: fast in channels-last layout' in caplog.text
