import dataclasses
import logging

import pytest
import torch

from pelk_mm.ops import available_backends, backends, depthwise_conv2d, set_backend
from pelk_mm.ops.backends import Problem, choose_backend


@pytest.fixture(autouse=True)
def _no_preference(monkeypatch):
    monkeypatch.delenv('PELK_MM_BACKEND', raising=False)
    monkeypatch.delenv('PELK_MM_LOG', raising=False)
    backends._warn_once.cache_clear()
    yield
    set_backend(None)


def problem(kernel_size=(51, 51), needs_grad=False, side=56):
    rows, columns = ((1,) * size for size in kernel_size)
    return Problem(torch.zeros(1, 2, side, side), rows, columns, needs_grad)


@pytest.fixture
def broken_fft(monkeypatch):
    """An ``fft`` back-end that refuses everything."""
    fft = dataclasses.replace(backends.BACKENDS['fft'], refusal=lambda problem: 'no transforms here')
    monkeypatch.setitem(backends.BACKENDS, 'fft', fft)


def test_automatic_choice():
    assert choose_backend(problem()).name == 'fft'
    assert choose_backend(problem((5, 5), needs_grad=True)).name == 'dense'
    assert choose_backend(problem((13, 13))).name == 'dense'
    assert choose_backend(problem((13, 13), needs_grad=True)).name == 'fft'
    assert choose_backend(problem((5, 51))).name == 'fft'
    assert choose_backend(problem(side=14)).name == 'dense'
    assert choose_backend(problem(side=14, needs_grad=True)).name == 'fft'


def test_a_named_backend_that_cannot_run_raises_with_the_reason(broken_fft):
    with pytest.raises(RuntimeError, match="backend='fft' cannot run here: no transforms here; these can: dense"):
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
    with pytest.raises(ValueError, match="name must be one of 'dense', 'fft', but got 'tpu'"):
        set_backend('tpu')
    monkeypatch.setenv('PELK_MM_BACKEND', 'tpu')
    with caplog.at_level(logging.WARNING, logger='pelk_mm'):
        assert choose_backend(problem()).name == 'fft'
    assert "'tpu' is passed over: unknown, choose from 'dense', 'fft'" in caplog.text


def test_debug_log_explains_the_choice(monkeypatch, caplog):
    monkeypatch.setenv('PELK_MM_LOG', 'debug')
    with caplog.at_level(logging.DEBUG, logger='pelk_mm'):
        depthwise_conv2d(torch.zeros(1, 2, 9, 9), torch.zeros(2, 1, 3, 3))
    assert 'backend dense for input (1, 2, 9, 9) torch.float32, kernel (3, 3)' in caplog.text


def test_names():
    assert available_backends() == ('dense', 'fft')
