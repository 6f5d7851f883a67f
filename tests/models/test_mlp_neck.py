import pytest
import torch
from torch.nn import functional as F

from pelk_mm.models import MlpNeck
from pelk_mm.registry import MODELS


def test_output():
    neck = MODELS.build({'type': 'pelk_mm.MlpNeck', 'in_channels': 5})
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.normal_()
    ignored, x = torch.randn(2, 3), torch.randn(2, 5)
    (out,) = neck((ignored, x))
    hidden = F.gelu(x @ neck.fc.weight.T + neck.fc.bias)
    hidden = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(out, hidden * neck.norm.weight + neck.norm.bias, rtol=1e-4, atol=1e-5)
    assert out.shape == (2, neck.out_channels) == (2, 15)


def test_bad_input():
    with pytest.raises(ValueError, match=r'\(N, 5\), but got \(1, 5, 2, 2\): set gap_before_final_norm'):
        MlpNeck(5)((torch.zeros(1, 5, 2, 2),))
    with pytest.raises(ValueError, match='mlp_ratio must leave a hidden channel of in_channels=2, but got 0.1'):
        MlpNeck(2, mlp_ratio=0.1)
    with pytest.raises(ValueError, match='in_channels'):
        MlpNeck(0)
    with pytest.raises(ValueError, match='type of act_cfg'):
        MlpNeck(2, act_cfg={'type': 'Tanh'})
