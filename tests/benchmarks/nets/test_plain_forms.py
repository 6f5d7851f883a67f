"""What WTConv and OverLoCK are measured against computes the same."""

import copy

import pytest
import torch
from random_norms import randomise

from pelk_mm.benchmarks import harness
from pelk_mm.benchmarks.nets import operators
from pelk_mm.benchmarks.nets.operators import benchmark_operators
from pelk_mm.benchmarks.nets.plain_forms import GroupedWaveletConv, UnfoldedContMix, in_plain_form
from pelk_mm.benchmarks.nets.rivals import PLAIN_FORMS, PUBLISHED, build_net
from pelk_mm.benchmarks.tables import operator_table
from pelk_mm.layers import WaveletConv
from pelk_mm.layers.contmix import ContMix
from pelk_mm.models import OverLoCK, WTConvNeXt

SMALL = {'depths': (1, 1, 1, 1), 'channels': (8, 8, 16, 16)}
NETS = {
    'wtconvnext': (lambda: WTConvNeXt(SMALL, wavelet_levels=(3, 2, 1, 0)), WaveletConv, GroupedWaveletConv),
    'overlock': (lambda: OverLoCK(SMALL, focus_heads=(2, 2)), ContMix, UnfoldedContMix),
}


@pytest.mark.parametrize('name', NETS)
@pytest.mark.parametrize('deployed', [False, True])
def test_plain_forms_compute_the_same(name, deployed):
    build, kind, plain_kind = NETS[name]
    net = randomise(build()).double().eval()
    if deployed:
        net.switch_to_deploy()
    plain = in_plain_form(copy.deepcopy(net))
    kinds = {type(module) for module in plain.modules()}
    assert plain_kind in kinds
    assert kind not in kinds
    x = torch.randn(2, 3, 75, 96, dtype=torch.float64)
    torch.testing.assert_close(plain(x)[0], net(x)[0])
    gradients = [torch.autograd.grad(each(x)[0].square().sum(), list(each.parameters())) for each in (net, plain)]
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-7 * expected.abs().max().item())


def test_nets_by_name():
    with torch.device('meta'):
        for name in PUBLISHED:
            assert sum(p.numel() for p in build_net(name, 'any').parameters()) > 1e7
        for name, original in PLAIN_FORMS.items():
            counts = [sum(p.numel() for p in build_net(each, 'any').parameters()) for each in (name, original)]
            assert counts[0] == counts[1]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(harness, 'SAMPLE_SECONDS', 0.0)
    monkeypatch.setattr(operators, 'WTConvNeXt', lambda _: WTConvNeXt(SMALL, wavelet_levels=(2, 1, 1, 0)))


@pytest.mark.parametrize('backward', [False, True])
def test_operators(small, backward):
    result = benchmark_operators(batch=1, backward=backward, repeats=1)
    assert not result.skipped
    assert [t.name for t in result.timings] == ['wavelet', 'wavelet, grouped', 'gather', 'gather, unfolded']
    assert [t.error is None for t in result.timings] == [False, True, False, True]
    table = operator_table(result)
    assert table.splitlines()[0].count('of the plain form') == 1 + backward
    if backward:
        kept = {t.name: t.kept_bytes for t in result.timings}
        assert kept['gather'] == 0  # its arguments, which are there anyway
        assert kept['wavelet'] < kept['wavelet, grouped']
    else:
        assert all(t.kept_bytes is None for t in result.timings)


def test_a_wrong_operator_is_not_timed(small, monkeypatch):
    monkeypatch.setattr(operators, 'neighbourhood_gather', lambda attention, value, kernel_size: value)
    with pytest.raises(harness.GateError, match='gather is wrong by'):
        benchmark_operators(batch=1, repeats=1)


@pytest.mark.parametrize('arguments', [{'batch': 0}, {'repeats': 0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match='must be at least 1, but got 0'):
        benchmark_operators(**arguments)
