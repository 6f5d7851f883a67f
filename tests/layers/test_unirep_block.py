"""UniRepLKNet's block, its channel gate and its response norm."""

import copy

import pytest
import torch
from random_norms import randomise
from torch import nn
from torch.nn import functional as F

from pelk_mm.layers import DilatedReparamConv, GlobalResponseNorm, InceptionConv, SqueezeExcite, UniRepBlock
from pelk_mm.layers.norm import ACTIVATIONS


def make(mixer=None, channels=8, act='GELU', **kwargs):
    torch.manual_seed(0)
    block = UniRepBlock(
        mixer or DilatedReparamConv(channels, 7),
        channels,
        branch_norm_cfg={'type': 'BN'},
        act_cfg={'type': act},
        **kwargs,
    )
    return randomise(block)


def restated(block, x, act=F.gelu):
    """The block in NCHW, by its formula, in evaluation mode."""

    def normed(y, norm):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return (y - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]

    y = normed(block.mixer(x), block.norm)
    squeezed = y.flatten(2).mean(2)
    gate = (
        block.se.up.weight.flatten(1)
        @ F.relu(F.linear(squeezed, block.se.down.weight.flatten(1), block.se.down.bias)).T
    )
    y = y * torch.sigmoid(gate.T + block.se.up.bias)[:, :, None, None]
    y = act(F.conv2d(y, block.pointwise_conv1.weight[:, :, None, None], block.pointwise_conv1.bias))
    response = y.square().flatten(2).sum(2).sqrt()[:, :, None, None]
    response = response / (response.mean(1, keepdim=True) + 1e-6)
    y = block.grn.gamma[:, None, None] * (y * response) + block.grn.beta[:, None, None] + y
    y = normed(F.conv2d(y, block.pointwise_conv2.weight[:, :, None, None]), block.out_norm)
    return x + y if block.gamma is None else x + block.gamma[:, None, None] * y


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize(
    'kwargs', [{}, {'layer_scale_init_value': 0}, {'act': 'ReLU', 'mlp_ratio': 2.0}], ids=['plain', 'unscaled', 'ReLU']
)
def test_is_its_formula_and_stays_so_deployed(kwargs, channels_last):
    block, x = make(**kwargs), torch.randn(3, 8, 5, 6)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    assert block.pointwise_conv2.bias is None
    with torch.no_grad():
        expected = restated(block, x, ACTIVATIONS[kwargs.get('act', 'GELU')]())
        tolerance = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(block(x), expected, rtol=0, atol=tolerance)
        block.switch_to_deploy()
        torch.testing.assert_close(block(x), expected, rtol=0, atol=tolerance)
    assert {name for name, _ in block.named_parameters()} == {
        *(f'{layer}.{name}' for layer in ('mixer', 'se.down', 'se.up') for name in ('weight', 'bias')),
        *(f'pointwise_conv{i}.{name}' for i in (1, 2) for name in ('weight', 'bias')),
        'grn.gamma',
    }
    before = copy.deepcopy(block.state_dict())
    block.switch_to_deploy()
    assert all(torch.equal(before[name], value) for name, value in block.state_dict().items())


def test_a_batch_norm_that_the_mixer_cannot_take_over_stays():
    block, x = make(InceptionConv(8)), torch.randn(3, 8, 5, 6)
    with torch.no_grad():
        expected = block(x)
        block.switch_to_deploy()
        torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert isinstance(block.norm, nn.BatchNorm2d)
    assert isinstance(block.out_norm, nn.Identity)


def test_frozen_weights_stay_frozen_when_deployed():
    block = make().requires_grad_(False)
    block.switch_to_deploy()
    assert not any(parameter.requires_grad for parameter in block.parameters())


@pytest.mark.parametrize('channels_last', [False, True])
def test_gradients(channels_last):
    block, x = make().double(), torch.randn(2, 8, 3, 4, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    names, parameters = zip(*block.named_parameters(), strict=True)
    cotangent = torch.randn_like(x)
    actual, expected = (torch.autograd.grad(f(x), parameters, cotangent) for f in (block, lambda x: restated(block, x)))
    for name, a, e in zip(names, actual, expected, strict=True):
        torch.testing.assert_close(a, e, msg=lambda m, name=name: f'{name}: {m}')


def test_starts_as_the_identity_norm():
    norm, x = GlobalResponseNorm(6), torch.randn(2, 4, 5, 6)
    assert torch.equal(norm(x), x)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_response_norm_in_every_precision(dtype):
    norm = GlobalResponseNorm(6)
    nn.init.normal_(norm.gamma)
    nn.init.normal_(norm.beta)
    x = 100 * torch.randn(2, 16, 16, 6)  # sums of squares beyond float16
    response = x.pow(2).sum((1, 2), keepdim=True).sqrt()
    expected = norm.gamma * (x * response / response.mean(-1, keepdim=True)) + norm.beta + x
    actual = norm.to(dtype)(x.to(dtype))
    assert actual.dtype == dtype
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    torch.testing.assert_close(actual.float(), expected, rtol=0, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_channel_of_zeros_has_finite_gradients(dtype):
    norm = GlobalResponseNorm(3).to(dtype)
    nn.init.ones_(norm.gamma)
    x = torch.randn(1, 2, 2, 3)
    x[..., 0] = 0
    x = x.to(dtype).requires_grad_()
    norm(x).sum().backward()
    assert x.grad.isfinite().all()
    assert norm.gamma.grad.isfinite().all()


def test_squeeze_excite_keeps_the_memory_layout():
    gate, x = SqueezeExcite(8, 2), torch.randn(2, 8, 5, 6)
    assert gate(x).is_contiguous()
    last = x.contiguous(memory_format=torch.channels_last)
    assert gate(last).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(gate(last), gate(x))


def test_bad_arguments():
    with pytest.raises(ValueError, match="type of branch_norm_cfg must be 'BN' or 'SyncBN', but got 'LN2d'"):
        UniRepBlock(DilatedReparamConv(8, 7), 8, branch_norm_cfg={'type': 'LN2d'}, act_cfg={'type': 'GELU'})
    with pytest.raises(ValueError, match="type of act_cfg must be one of .* but got 'Swish'"):
        make(act='Swish')
