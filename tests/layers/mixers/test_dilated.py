"""The dilated re-parameterisation mixer and the plain depthwise one that it becomes."""

import copy

import pytest
import torch
from random_norms import randomise
from torch import nn
from torch.nn import functional as F

from pelk_mm.layers import DepthwiseConv, DilatedReparamConv
from pelk_mm.layers.norm import batch_norm_scale_and_shift

# UniRepLKNet's table, written as its authors give it: kernel sizes and dilations apart
TABLE = {
    17: ((5, 9, 3, 3, 3), (1, 2, 4, 5, 7)),
    15: ((5, 7, 3, 3, 3), (1, 2, 3, 5, 7)),
    13: ((5, 7, 3, 3, 3), (1, 2, 3, 4, 5)),
    11: ((5, 5, 3, 3, 3), (1, 2, 3, 4, 5)),
    9: ((5, 5, 3, 3), (1, 2, 3, 4)),
    7: ((5, 3, 3), (1, 2, 3)),
    5: ((3, 3), (1, 2)),
}


def make(kernel_size=13, channels=6, conv_ratio=1.0):
    torch.manual_seed(0)
    mixer = randomise(DilatedReparamConv(channels, kernel_size, conv_ratio=conv_ratio))
    for parameter in mixer.parameters(recurse=False):
        nn.init.normal_(parameter)
    return mixer


def tap_by_tap(x, weight, dilation):
    """A dilated depthwise convolution by its definition: shifted images, summed over the taps."""
    size = weight.shape[-1]
    reach = size // 2 * dilation
    padded = F.pad(x, (reach,) * 4)
    out = torch.zeros_like(x)
    for i in range(size):
        for j in range(size):
            shifted = padded[:, :, i * dilation :, j * dilation :][:, :, : x.shape[2], : x.shape[3]]
            out += shifted * weight[:, 0, i, j, None, None]
    return out


def restated(mixer, x, table):
    def normed(y, norm):
        return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    out = normed(tap_by_tap(x, mixer.weight, 1), mixer.norm)
    for size, dilation in zip(*table, strict=True):
        weight = getattr(mixer, f'dilated_weight_k{size}_r{dilation}')
        assert weight.shape == (x.shape[1], 1, size, size)
        out = out + normed(tap_by_tap(x, weight, dilation), getattr(mixer, f'dilated_norm_k{size}_r{dilation}'))
    return out


@pytest.mark.parametrize('kernel_size', [*TABLE, 21])
def test_is_the_sum_of_its_branches_and_stays_so_deployed(kernel_size):
    table = TABLE.get(kernel_size, TABLE[17])
    assert all((size - 1) * dilation + 1 <= kernel_size for size, dilation in zip(*table, strict=True))
    mixer, x = make(kernel_size), torch.randn(2, 6, 11, 8)
    with torch.no_grad():
        expected = restated(mixer, x, table)
        tolerance = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(mixer(x), expected, rtol=0, atol=tolerance)
        mixer.switch_to_deploy()
        torch.testing.assert_close(mixer(x), expected, rtol=0, atol=tolerance)
    assert {name: tuple(p.shape) for name, p in mixer.named_parameters()} == {
        'weight': (6, 1, kernel_size, kernel_size),
        'bias': (6,),
    }
    before = copy.deepcopy(mixer.state_dict())
    mixer.switch_to_deploy()
    assert all(torch.equal(before[name], value) for name, value in mixer.state_dict().items())


def test_every_branch_is_trained_and_maskable():
    mixer = make(13).train()
    (mixer(torch.randn(2, 6, 9, 9)) * torch.randn(2, 6, 9, 9)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in mixer.parameters())
    assert len(mixer.maskable_parameters) == 1 + len(TABLE[13][0])
    assert mixer.norm.num_batches_tracked == 1


def test_channels_that_pass():
    mixer, x = make(7, channels=8, conv_ratio=0.5), torch.randn(1, 8, 5, 6)
    with torch.no_grad():
        out = mixer(x)
        torch.testing.assert_close(out[:, :4], restated(mixer, x[:, :4], TABLE[7]), rtol=1e-4, atol=1e-4)
        assert torch.equal(out[:, 4:], x[:, 4:])
        mixer.switch_to_deploy()
        torch.testing.assert_close(mixer(x), out, rtol=1e-4, atol=1e-4)
    with pytest.raises(NotImplementedError, match='channels that pass'):
        mixer.scale_output(*torch.ones(2, 8, dtype=torch.float64))


@pytest.mark.parametrize('make_mixer', [make, lambda: DepthwiseConv(6, 3)], ids=['dilated', 'plain'])
def test_takes_over_a_batch_norm_behind_it(make_mixer):
    mixer, norm, x = make_mixer(), randomise(nn.BatchNorm2d(6), seed=2), torch.randn(2, 6, 7, 9)
    with torch.no_grad():
        expected = norm(mixer(x))
        with pytest.raises(RuntimeError, match='needs the deployed form'):
            mixer.scale_output(*batch_norm_scale_and_shift(norm))
        mixer.switch_to_deploy()
        mixer.scale_output(*batch_norm_scale_and_shift(norm))
        torch.testing.assert_close(mixer(x), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_plain_depthwise_convolution():
    mixer, x = DepthwiseConv(6, 5), torch.randn(2, 6, 7, 4)
    assert [name for name, _ in mixer.named_parameters()] == ['weight']
    expected = tap_by_tap(x, mixer.weight, 1)
    torch.testing.assert_close(mixer(x), expected, rtol=1e-4, atol=1e-6)
    mixer.switch_to_deploy()
    torch.testing.assert_close(mixer(x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'kernel_size': 12}, ValueError, 'kernel_size must be odd and positive, but got 12'),
        ({'kernel_size': 3}, ValueError, 'kernel_size of a dilated mixer must be at least 5, but got 3'),
        ({'kernel_size': 7.0}, TypeError, 'kernel_size must be an int, but got 7.0'),
        ({'conv_ratio': 0}, ValueError, r'conv_ratio must be in \(0, 1\], but got 0'),
        ({'norm_cfg': {'type': 'LN2d'}}, ValueError, "must be 'BN' or 'SyncBN', but got 'LN2d'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        DilatedReparamConv(8, **{'kernel_size': 13, **arguments})


def test_bad_input():
    mixer = make()
    with pytest.raises(ValueError, match=r'x must have shape \(N, 6, H, W\), but got \(1, 4, 4, 4\)'):
        mixer(torch.zeros(1, 4, 4, 4))
    for call in (lambda h: mixer(torch.zeros(1, 6, 4, 4), h), mixer.switch_to_deploy):
        with pytest.raises(ValueError, match='pos_embed must be None'):
            call(torch.zeros(6, 13, 13))
    with pytest.raises(ValueError, match='more than one pixel'):
        mixer.train()(torch.zeros(1, 6, 1, 1))
