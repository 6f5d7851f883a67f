import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pelk_mm.layers import PeripheralConv2d
from pelk_mm.ops import SharingGrid

MODES = ['visible', 'bias', None]


def randomise_norms(module, seed=0):
    """BatchNorm statistics and affine parameters that a merge cannot get right by luck."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2.0, generator=generator)
            norm.weight.data.uniform_(0.5, 2.0, generator=generator)
            norm.bias.data.normal_(generator=generator)
    return module


def make(mode='visible', kernel_size=13, channels=16, **kwargs):
    mixer = PeripheralConv2d(channels, kernel_size, pos_embed=mode, **kwargs)
    h = None if mode is None else torch.randn(mixer.conv_channels, kernel_size, kernel_size)
    return randomise_norms(mixer).eval(), h


@pytest.mark.parametrize('mode', MODES)
def test_is_eq_3_plus_the_small_branch(mode):
    """Against the definition: expanded kernel, h added to the pixels, stock convolutions."""
    mixer, h = make(mode)
    x = torch.randn(2, 16, 9, 7)
    g, k = mixer.conv_channels, 13
    kernel = mixer.grid.expand(mixer.w_theta)
    large = F.conv2d(x[:, :g], kernel, padding=k // 2, groups=g)
    if mode == 'bias':
        large = large + (kernel[:, 0] * h).sum((1, 2))[:, None, None]
    elif mode == 'visible':
        inside = F.conv2d(torch.ones(1, g, 9, 7), kernel * h.unsqueeze(1), padding=k // 2, groups=g)
        large = large + inside
    small = F.conv2d(x[:, :g], mixer.small_weight, padding=2, groups=g)
    expected = torch.cat([mixer.norm(large) + mixer.small_norm(small), x[:, g:]], 1)
    torch.testing.assert_close(mixer(x, h), expected, rtol=1e-4, atol=1e-5)


def test_partial_split_passes_the_other_channels():
    mixer, h = make()
    x = torch.randn(1, 16, 8, 8)
    assert mixer.conv_channels == 6
    assert torch.equal(mixer(x, h)[:, 6:], x[:, 6:])
    whole, h = make(conv_ratio=1.0)
    assert whole(x, h).shape == x.shape


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        {'kernel_size': 51, 'central_size': 5},
        {'kernel_size': 51, 'central_size': 1},
        {'kernel_size': 5, 'grid': (2, 1, 2)},
        {'small_kernel': None},
        {'small_kernel': 7},
        {'conv_ratio': 1.0},
        {'norm_cfg': {'type': 'BN', 'affine': False}},
    ],
    ids=str,
)
def test_deploy_keeps_the_output(mode, kwargs):
    if kwargs.get('norm_cfg'):
        mixer = PeripheralConv2d(16, 13, pos_embed=mode, **kwargs).eval()
        mixer.norm.running_mean.normal_()
        h = None if mode is None else torch.randn(6, 13, 13)
    else:
        mixer, h = make(mode, **kwargs)
    grid = mixer.grid
    x = torch.randn(2, 16, 11, 20)
    with torch.no_grad():
        expected = mixer(x, h)
        mixer.switch_to_deploy(h)
        kept = h if mode == 'visible' else None
        for _ in range(2):  # the second run takes the cached map
            torch.testing.assert_close(mixer(x, kept), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    torch.testing.assert_close(mixer(x, kept), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    before = copy.deepcopy(mixer.state_dict())
    mixer.switch_to_deploy(kept)
    assert all(torch.equal(before[name], value) for name, value in mixer.state_dict().items())
    small = kwargs.get('small_kernel', 5)
    assert mixer.grid == (grid if small is None else grid.refine_centre(small))
    expected_names = {'w_theta', 'bias'} | ({'pos_weight'} if mode == 'visible' else set())
    assert set(mixer.state_dict()) == expected_names


def test_deploy_keeps_the_papers_grid():
    mixer, h = make(kernel_size=51)
    mixer.switch_to_deploy(h)
    assert mixer.w_theta.shape == (6, 13, 13)


@pytest.mark.parametrize('deployed', [False, True])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=['nchw', 'nhwc'])
def test_output_is_in_channels_last_memory(layout, deployed):
    mixer, h = make()
    if deployed:
        mixer.switch_to_deploy()
    x = torch.randn(2, 16, 9, 8).contiguous(memory_format=layout)
    assert mixer(x, h).is_contiguous(memory_format=torch.channels_last)


def test_state_dict_does_not_depend_on_the_backend(monkeypatch):
    mixer, h = make()
    x = torch.randn(1, 16, 20, 20)
    expected = mixer(x, h)
    file = io.BytesIO()
    torch.save(mixer.state_dict(), file)
    file.seek(0)
    other, _ = make()
    other.load_state_dict(torch.load(file, weights_only=True))
    monkeypatch.setenv('PELK_MM_BACKEND', 'dense')
    torch.testing.assert_close(other(x, h), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mode', MODES)
def test_every_parameter_gets_a_gradient(mode):
    mixer, h = make(mode)
    mixer.train()
    if h is not None:
        h.requires_grad_()
    (mixer(torch.randn(2, 16, 8, 8), h) * torch.randn(2, 16, 8, 8)).sum().backward()
    for name, parameter in mixer.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    if mode == 'visible':
        assert h.grad.abs().sum() > 0


@pytest.mark.parametrize('mode', ['visible', None])
def test_bfloat16_autocast(mode):
    mixer, h = make(mode)
    x = torch.randn(2, 16, 12, 12)
    expected = mixer(x, h)
    with torch.autocast('cpu', torch.bfloat16):
        actual = mixer(x, h)
    torch.testing.assert_close(actual.float(), expected, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        ({'kernel_size': 50}, ValueError, 'kernel_size must be odd and positive, but got 50'),
        ({'kernel_size': 0}, ValueError, 'kernel_size must be odd and positive, but got 0'),
        ({'kernel_size': 13, 'central_size': 4}, ValueError, 'central_size must be odd and positive, but got 4'),
        ({'kernel_size': 3}, ValueError, 'central_size must be at most kernel_size=3, but got 5'),
        ({'kernel_size': 13, 'grid': (2, 1, 2)}, ValueError, r'grid must sum to kernel_size=13, but \(2, 1, 2\) sums'),
        ({'kernel_size': 13, 'grid': (6, 4, 3)}, ValueError, 'symmetric'),
        ({'kernel_size': 13, 'small_kernel': 4}, ValueError, 'small_kernel must be odd and positive, but got 4'),
        ({'kernel_size': 5, 'small_kernel': 7}, ValueError, 'small_kernel must be at most kernel_size=5, but got 7'),
        ({'kernel_size': 13, 'conv_ratio': 0}, ValueError, r'conv_ratio must be in \(0, 1\], but got 0'),
        ({'kernel_size': 13, 'conv_ratio': 0.01}, ValueError, 'leaves none to convolve'),
        ({'kernel_size': 13, 'pos_embed': 'sum'}, ValueError, "pos_embed must be 'visible', 'bias' or None"),
        ({'kernel_size': 13, 'norm_cfg': {'type': 'LN2d'}}, ValueError, "must be 'BN' or 'SyncBN', but got 'LN2d'"),
        ({'kernel_size': 13, 'norm_cfg': {'type': 'BN', 'epsilon': 1}}, ValueError, r"norm_cfg holds keys .*'epsilon'"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        PeripheralConv2d(16, **kwargs)


def test_bad_input():
    mixer, h = make()
    with pytest.raises(ValueError, match=r'x must have shape \(N, 16, H, W\), but got \(1, 8, 4, 4\)'):
        mixer(torch.zeros(1, 8, 4, 4), h)
    with pytest.raises(ValueError, match=r"h of shape \(6, 13, 13\) for a 'visible' mixer, but got None"):
        mixer(torch.zeros(1, 16, 4, 4))
    with pytest.raises(ValueError, match=r'but got \(6, 5, 5\)'):
        mixer(torch.zeros(1, 16, 4, 4), h[:, :5, :5])
    with pytest.raises(ValueError, match='pos_embed must be torch.float32 on cpu .* got torch.float64 on cpu'):
        mixer(torch.zeros(1, 16, 4, 4), h.double())
    with pytest.raises(ValueError, match=r'x must have shape .* but got list'):
        mixer([1], h)
    plain, _ = make(None)
    with pytest.raises(ValueError, match='pos_embed must be None'):
        plain(torch.zeros(1, 16, 4, 4), h)
    biased, h = make('bias')
    with pytest.raises(ValueError, match="for a 'bias' mixer, but got None"):
        biased.switch_to_deploy()


def test_a_given_grid_is_taken():
    grid = SharingGrid((3, 3, 1, 3, 3))
    assert PeripheralConv2d(16, 13, grid=grid).grid is grid
    assert PeripheralConv2d(16, 13, grid=[3, 3, 1, 3, 3]).grid == grid
