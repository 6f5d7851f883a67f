import sys
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pelk_mm.benchmarks.op.public_rivals import WAVELETS, implicit_gemm, trained_parameters, wavelet_convolution


class ImplicitGEMM(nn.Conv2d):
    """The constructor and the padding of MegEngine's."""

    def __init__(self, channels, kernel, bias=False):
        super().__init__(channels, channels, kernel, groups=channels, bias=bias)

    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2, groups=len(self.weight))


class WTConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=5, stride=1, bias=True, wt_levels=1):
        super().__init__()
        assert (in_channels, kernel_size, bias) == (out_channels, 5, False)
        self.levels = wt_levels
        self.filter = nn.Parameter(torch.ones(2), requires_grad=False)
        self.weight = nn.Parameter(torch.randn(in_channels))


def install(monkeypatch, name, **contents):
    for parent in (name.split('.')[0], name):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    vars(sys.modules[name]).update(contents)


@pytest.mark.parametrize('needs_grad', [False, True])
def test_implicit_gemm_takes_the_kernel(monkeypatch, needs_grad):
    install(monkeypatch, 'depthwise_conv2d_implicit_gemm', DepthWiseConv2dImplicitGEMM=ImplicitGEMM)
    kernel = torch.randn(3, 1, 7, 7, dtype=torch.float64, requires_grad=needs_grad)
    gemm = implicit_gemm(kernel)
    x = torch.randn(1, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(gemm(x), F.conv2d(x, kernel, padding=3, groups=3))
    assert trained_parameters(gemm) == ((gemm.weight,) if needs_grad else ())


@pytest.mark.parametrize('name', WAVELETS)
@pytest.mark.parametrize(
    ('kernel_size', 'side', 'levels'), [(5, 56, 1), (10, 56, 1), (51, 56, 4), (151, 200, 5), (151, 7, 3), (51, 1, 1)]
)
def test_wavelet_levels_see_the_kernel(monkeypatch, name, kernel_size, side, levels):
    install(monkeypatch, WAVELETS[name], WTConv2d=WTConv2d)
    wavelet = wavelet_convolution(name, torch.zeros(1, 4, side, side, dtype=torch.bfloat16), kernel_size)
    assert wavelet.levels == levels
    assert wavelet.weight.dtype == torch.bfloat16
    assert [p is wavelet.weight for p in trained_parameters(wavelet)] == [True]


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'depthwise_conv2d_implicit_gemm', None)
    with pytest.raises(ImportError, match='depthwise_conv2d_implicit_gemm cannot be imported'):
        implicit_gemm(torch.zeros(1, 1, 3, 3))
