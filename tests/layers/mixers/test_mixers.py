"""The contract of mixers, of those that read an embedding h above all; what the dense and the stripe ones compute."""

import copy

import pytest
import torch
from random_norms import randomise
from torch import nn
from torch.nn import functional as F

from pelk_mm.layers import MIXERS, DenseConv, DepthwiseConv, PeripheralConv2d, StripeConv, TokenMixer
from pelk_mm.ops import SharingGrid

MODES = ['visible', 'bias', None]
WITH_H = [name for name, mixer in MIXERS.items() if mixer.reads_pos_embed]


def make(name, mode, channels=8, kernel_size=13, conv_ratio=0.5, **kwargs):
    """A mixer with BatchNorm statistics that a merge cannot get right by luck, and an h for it."""
    generator = torch.Generator().manual_seed(2)
    mixer = MIXERS[name](channels, kernel_size, conv_ratio=conv_ratio, pos_embed=mode, **kwargs)
    randomise(mixer)
    h = None if mode is None else torch.randn(mixer.conv_channels, kernel_size, kernel_size, generator=generator)
    return mixer.eval(), h


def correlate_with_h(x, kernel, h, mode):
    """Eq. 3 by its definition: a K x K kernel on the pixels plus h on the visible, or on all, positions."""
    g, k = kernel.shape[0], kernel.shape[-1]
    out = F.conv2d(x, kernel, padding=k // 2, groups=g)
    if mode == 'bias':
        return out + (kernel[:, 0] * h).sum((1, 2))[:, None, None]
    if mode == 'visible':
        return out + F.conv2d(torch.ones_like(x[:1]), kernel * h.unsqueeze(1), padding=k // 2, groups=g)
    return out


@pytest.mark.parametrize('mode', MODES)
def test_stripes_are_a_cross_of_two_kernels(mode):
    mixer, h = make('stripe', mode)
    x = torch.randn(2, 8, 9, 17)
    tall = F.pad(mixer.tall_weight, (4, 4))  # 13 x 5 and 5 x 13, centred in 13 x 13
    wide = F.pad(mixer.wide_weight, (0, 0, 4, 4))
    mixed = mixer.tall_norm(correlate_with_h(x[:, :4], tall, h, mode))
    mixed = mixed + mixer.wide_norm(correlate_with_h(x[:, :4], wide, h, mode))
    mixed = mixed + mixer.small_norm(F.conv2d(x[:, :4], mixer.small_weight, padding=2, groups=4))
    torch.testing.assert_close(mixer(x, h), torch.cat([mixed, x[:, 4:]], 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mode', MODES)
def test_dense_is_a_stock_convolution(mode):
    mixer, h = make('dense', mode)
    x = torch.randn(2, 8, 9, 17)
    mixed = mixer.norm(correlate_with_h(x[:, :4], mixer.w_theta.unsqueeze(1), h, mode))
    mixed = mixed + mixer.small_norm(F.conv2d(x[:, :4], mixer.small_weight, padding=2, groups=4))
    torch.testing.assert_close(mixer(x, h), torch.cat([mixed, x[:, 4:]], 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('name', WITH_H)
@pytest.mark.parametrize('small_kernel', [3, 5])
def test_deploy_keeps_the_output(name, mode, small_kernel):
    mixer, h = make(name, mode, small_kernel=small_kernel)
    x = torch.randn(2, 8, 11, 20)
    with torch.no_grad():
        expected = mixer(x, h)
        mixer.switch_to_deploy(h)
        kept = h if mode == 'visible' else None
        for _ in range(2):  # the second run takes the cached map
            torch.testing.assert_close(mixer(x, kept), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    torch.testing.assert_close(mixer(x, kept), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert not [m for m in mixer.modules() if isinstance(m, nn.BatchNorm2d)]
    before = copy.deepcopy(mixer.state_dict())
    mixer.switch_to_deploy(kept)
    assert all(torch.equal(before[key], value) for key, value in mixer.state_dict().items())


@pytest.mark.parametrize('name', WITH_H)
def test_cached_map_follows_the_weights(name):
    mixer, h = make(name, 'visible')
    mixer.switch_to_deploy(h)
    x = torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        mixer(x, h)
        for weight in mixer.parameters():
            weight.data.mul_(1.5)
            torch.testing.assert_close(mixer(x, h), copy.deepcopy(mixer).train().eval()(x, h))


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('name', WITH_H)
def test_every_parameter_gets_a_gradient(name, mode):
    mixer, h = make(name, mode)
    mixer.train()
    if h is not None:
        h.requires_grad_()
    (mixer(torch.randn(2, 8, 8, 8), h) * torch.randn(2, 8, 8, 8)).sum().backward()
    for parameter_name, parameter in mixer.named_parameters():
        assert parameter.grad.abs().sum() > 0, parameter_name
    if mode == 'visible':
        assert h.grad.abs().sum() > 0


@pytest.mark.parametrize('name', WITH_H)
def test_bad_input(name):
    mixer, h = make(name, 'visible')
    with pytest.raises(ValueError, match=r'x must have shape \(N, 8, H, W\), but got \(1, 4, 4, 4\)'):
        mixer(torch.zeros(1, 4, 4, 4), h)
    with pytest.raises(ValueError, match=r"h of shape \(4, 13, 13\) for a 'visible' mixer, but got None"):
        mixer(torch.zeros(1, 8, 4, 4))
    with pytest.raises(ValueError, match='pos_embed must be torch.float32'):
        mixer(torch.zeros(1, 8, 4, 4), h.double())
    with pytest.raises(ValueError, match='more than one pixel'):
        mixer.train()(torch.zeros(1, 8, 1, 1), h)
    for arguments, message in [
        ({'kernel_size': 12}, 'kernel_size must be odd'),
        ({'conv_ratio': 2}, r'conv_ratio must be in \(0, 1\], but got 2'),
        ({'small_kernel': 15}, 'small_kernel must be at most kernel_size=13, but got 15'),
        ({'pos_embed': 'sum'}, "pos_embed must be 'visible', 'bias' or None"),
        ({'norm_cfg': {'type': 'LN2d'}}, "must be 'BN' or 'SyncBN'"),
    ]:
        with pytest.raises(ValueError, match=message):
            MIXERS[name](8, **{'kernel_size': 13, **arguments})


def test_stripes_need_a_width():
    with pytest.raises(ValueError, match="small_kernel must be the stripes' width"):
        StripeConv(8, 13, small_kernel=None)


def test_dense_equals_peripheral_on_the_dense_grid():
    dense, _ = make('dense', None)
    peripheral = PeripheralConv2d(8, 13, grid=SharingGrid.dense(13), conv_ratio=0.5).eval()
    peripheral.load_state_dict(dense.state_dict())
    x = torch.randn(1, 8, 20, 20)
    assert torch.equal(dense(x), peripheral(x))


def test_parameters_of_the_papers_comparison():
    """K = 51, all channels: K^2 against 2 n K against k'^2 a channel, beside the 5 x 5 branch and the norms."""
    count = {
        name: sum(p.numel() for key, p in MIXERS[name](10, 51, conv_ratio=1.0).named_parameters() if 'norm' not in key)
        for name in WITH_H
    }
    assert count == {'dense': 10 * (51 * 51 + 25), 'stripe': 10 * (2 * 5 * 51 + 25), 'peripheral': 10 * (13 * 13 + 25)}
    assert isinstance(MIXERS['dense'](10, 51), DenseConv)


OFFERED = {
    'central_size': 5,
    'grid': (4, 2, 1, 2, 4),
    'conv_ratio': 0.5,
    'small_kernel': 3,
    'window_size': 4,
    'branch_norm_cfg': {'type': 'BN', 'eps': 1e-3},
    'pos_embed': None,
}


@pytest.mark.parametrize('name', MIXERS)
def test_from_pelk_names_what_the_mixer_reads(name):
    mixer_class = MIXERS[name]
    arguments = {key: OFFERED[key] for key in mixer_class.pelk_arguments()}
    mixer = mixer_class.from_pelk(16, 13, **arguments)
    assert type(mixer) is mixer_class
    assert ('pos_embed' in arguments) == mixer_class.reads_pos_embed
    assert all(norm.eps == 1e-3 for norm in mixer.modules() if isinstance(norm, nn.BatchNorm2d))
    assert mixer(torch.randn(2, 16, 9, 9)).shape == (2, 16, 9, 9)
    for key in OFFERED.keys() - arguments.keys():
        with pytest.raises(TypeError, match=key):
            mixer_class.from_pelk(16, 13, **arguments, **{key: OFFERED[key]})


def test_from_pelk_translates():
    peripheral = MIXERS['peripheral'].from_pelk(16, 13, **{k: v for k, v in OFFERED.items() if k != 'window_size'})
    assert (peripheral.grid.sizes, peripheral.conv_channels, peripheral.small_kernel) == ((4, 2, 1, 2, 4), 8, 3)
    inception = MIXERS['inception'].from_pelk(16, 13, conv_ratio=0.5, small_kernel=3)
    assert (inception.branch_channels, inception.square_kernel, inception.band_kernel) == (2, 3, 13)
    shiftwise = MIXERS['shiftwise'].from_pelk(16, 13, conv_ratio=0.5, small_kernel=3, branch_norm_cfg={'type': 'BN'})
    assert (shiftwise.conv_channels, shiftwise.small_kernel, shiftwise.kernel_size) == (8, 3, 13)
    wavelet = MIXERS['wavelet'].from_pelk(16, 13, conv_ratio=0.5, small_kernel=3)
    assert (wavelet.conv_channels, wavelet.small_kernel, wavelet.levels) == (8, 3, 3)  # 3 * 2^3 = 24, 3 * 2^2 = 12
    window = MIXERS['window'].from_pelk(16, 51, conv_ratio=0.5, window_size=4)
    assert (window.conv_channels, window.window_size, window.kernel_size) == (8, 4, 7)
    with pytest.raises(NotImplementedError):
        TokenMixer.from_pelk(16, 13)


KERNELS = {**MIXERS, 'depthwise': DepthwiseConv}


SIZES = {'inception': {}, 'wavelet': {'kernel_size': 3, 'levels': 2}, 'window': {'window_size': 3}}


def make_in_float64(name):
    return KERNELS[name](8, **SIZES.get(name, {'kernel_size': 13})).double().eval()


SHIFT_INVARIANT = [name for name, mixer in KERNELS.items() if mixer.shift_invariant]
OTHERS = {'wavelet': 4, 'window': 3}  # after so many pixels they do the same again


def test_which_mixers_are_convolutions():
    assert set(KERNELS) - set(SHIFT_INVARIANT) == set(OTHERS)


@pytest.mark.parametrize('name', OTHERS)
@pytest.mark.parametrize('deployed', [False, True])
def test_dense_kernel_of_what_is_no_convolution(name, deployed):
    """On average over one period, an output's weights for the pixels around it are the kernel."""
    mixer, period = randomise(make_in_float64(name)), OTHERS[name]
    if name == 'wavelet':
        for parameter_name, parameter in mixer.named_parameters():
            if 'scale' in parameter_name:
                nn.init.uniform_(parameter, 0.5, 1.5)
    if deployed:
        mixer.switch_to_deploy()
    kernel = mixer.dense_kernel()
    side = kernel.shape[1]
    assert kernel.shape == (8, side, side)
    assert kernel.requires_grad
    half, first = side // 2, -(-(side // 2) // period) * period
    x = torch.zeros(1, 8, *[first + period + half] * 2, dtype=torch.float64, requires_grad=True)
    seen = []
    for i in range(first, first + period):
        for j in range(first, first + period):
            (weights,) = torch.autograd.grad(mixer(x)[0, :, i, j].sum(), x)
            seen.append(weights[0, :, i - half : i + half + 1, j - half : j + half + 1])
            assert weights.count_nonzero() == seen[-1].count_nonzero()
    torch.testing.assert_close(torch.stack(seen).mean(0), kernel.detach())


@pytest.mark.parametrize('name', SHIFT_INVARIANT)
def test_dense_kernel_of_a_deployed_mixer(name):
    """The outputs of the convolved channels are a cross-correlation with the kernel, plus what a zero image gives."""
    mixer = randomise(make_in_float64(name))
    mixer.switch_to_deploy()
    kernel = mixer.dense_kernel()
    count, side = kernel.shape[:2]
    assert kernel.shape == (count, side, side)
    assert side >= mixer.kernel_size
    assert kernel.requires_grad
    x = torch.randn(2, 8, 9, 17, dtype=torch.float64)
    outputs = slice(8 - count, 8) if name == 'inception' else slice(count)  # InceptionNeXt's convolved ones come last
    convolved = x[:, mixer.rep_channels] if name == 'shiftwise' else x[:, outputs]
    expected = F.conv2d(convolved, kernel.unsqueeze(1), padding=side // 2, groups=count)
    torch.testing.assert_close((mixer(x) - mixer(torch.zeros_like(x)))[:, outputs], expected)


@pytest.mark.parametrize('name', SHIFT_INVARIANT)
def test_dense_kernel_before_deployment(name):
    """The deployed one, where the BatchNorm of the large kernel is the identity and the other branches give nothing."""
    mixer = make_in_float64(name)
    before = mixer.dense_kernel().detach().clone()
    for module_name, norm in mixer.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 0.0
            is_large = name == 'shiftwise' or not module_name.startswith(('small', 'dilated'))
            nn.init.constant_(norm.weight, float(is_large))
    mixer.switch_to_deploy()
    after = mixer.dense_kernel().detach()
    if name == 'shiftwise':  # all its branches are in the kernel, but for the residual
        after[:, after.shape[1] // 2, after.shape[1] // 2] -= 1
    torch.testing.assert_close(after, before)


def test_a_mixer_without_a_dense_kernel():
    with pytest.raises(NotImplementedError):
        TokenMixer().dense_kernel()
