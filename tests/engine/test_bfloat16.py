import torch
from mmengine.optim import build_optim_wrapper
from torch import nn


class Probe(nn.Linear):
    """Remembers the dtype it computed in."""

    def forward(self, x):
        out = super().forward(x)
        self.dtype = out.dtype
        return out


def make(**kwargs):
    model = Probe(4, 2)
    cfg = {'type': 'pelk_mm.BFloat16OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1}, **kwargs}
    return model, build_optim_wrapper(model, cfg)


def test_forward_runs_in_bfloat16_and_weights_stay_float32():
    model, wrapper = make()
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        loss = model(torch.ones(3, 4)).float().sum()
    assert model.dtype == torch.bfloat16
    wrapper.update_params(loss)
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight, before - 0.1 * 3)
    model(torch.ones(1, 4))
    assert model.dtype == torch.float32


def test_accumulates_gradients_like_its_base():
    model, wrapper = make(accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    before = model.weight.detach().clone()
    for step in range(2):
        with wrapper.optim_context(model):
            loss = model(torch.ones(1, 4)).float().sum()
        wrapper.update_params(loss)
        assert torch.equal(model.weight, before) is (step == 0)
    torch.testing.assert_close(model.weight, before - 0.1)
