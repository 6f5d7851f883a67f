import torch
from torch.utils.flop_counter import FlopCounterMode

from pelk_mm.analysis.counting import flop_formulas  # noqa: F401  (registers)
from pelk_mm.ops import SharingGrid, peripheral_conv2d


def count(x, weight, backend):
    """Operations of the forward pass, and of both passes."""
    with FlopCounterMode(display=False) as counter:
        out = peripheral_conv2d(x, weight, SharingGrid((2, 1, 2)), backend=backend)
        forward = counter.get_total_flops()
        out.sum().backward()
    return forward, counter.get_total_flops()


def test_dense_taps_at_two_operations_each():
    """As for a stock convolution; and as many for each gradient."""
    x, weight = torch.randn(2, 5, 7, 9, requires_grad=True), torch.randn(5, 3, 3, requires_grad=True)
    once = 2 * x.numel() * 25
    assert count(x, weight, 'fft') == (once, 3 * once)
    assert count(x, weight, 'dense')[0] == once
    assert count(x.detach(), weight, 'fft') == (once, 2 * once)
