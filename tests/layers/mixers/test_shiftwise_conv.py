"""The shiftwise mixer against the steps of its authors' operator, written out with slices."""

import copy

import pytest
import torch
from random_norms import randomise
from torch import nn
from torch.nn import functional as F

from pelk_mm.layers import ShiftwiseConv


def make(channels=16, kernel_size=13, **kwargs):
    torch.manual_seed(0)
    mixer = ShiftwiseConv(channels, kernel_size, **kwargs)
    nn.init.normal_(mixer.weight)
    randomise(mixer)
    return mixer.eval()


def plain(mixer, x):
    """Split, one grouped convolution a path, shifted slices, three norms, the inner residual, concatenation."""
    n, m = mixer.small_kernel, mixer.kernel_size
    rep, ghost = mixer.rep_channels.tolist(), mixer.ghost_channels.tolist()
    own = x[:, rep]
    batch, channels, height, width = own.shape
    paths, _, groups = mixer.weight.shape[:3]
    u = sum(
        F.conv2d(own, mixer.weight[q].reshape(channels * groups, 1, n, n), padding=n - 1, groups=channels)
        for q in range(paths)
    ).view(batch, channels, groups, height + n - 1, width + n - 1)
    reach = m + n  # margin of zeros within which every shift stays
    padded = F.pad(u, (reach,) * 4)
    e = n // 2
    wide, tall, small = (torch.zeros_like(own) for _ in range(3))
    for edge in range(mixer.edges):
        for c in range(channels):
            for i in range(groups):
                shift = m // 2 - i * n - (n - 1)
                j, k = int(mixer.horizontal[edge, c, i]), int(mixer.vertical[edge, c, i])
                wide[:, c] += padded[:, c, j, reach + e :, reach - shift :][:, :height, :width]
                tall[:, c] += padded[:, c, k, reach - shift :, reach + e :][:, :height, :width]
            k = int(mixer.identity[edge, c])
            small[:, c] += padded[:, c, k, reach + e :, reach + e :][:, :height, :width]
    mixed = mixer.wide_norm(wide) + mixer.tall_norm(tall) + mixer.small_norm(small) + own
    return torch.cat([mixed, x[:, ghost]], 1)


CASES = [
    {},
    {'small_kernel': 5, 'edges': 1, 'rep_paths': 1},
    {'kernel_size': 7, 'small_kernel': 7, 'ghost_ratio': 0.0},
    {'kernel_size': 51, 'ghost_ratio': 0.6, 'even': False},
]


@pytest.mark.parametrize('kwargs', CASES)
@pytest.mark.parametrize('size', [(9, 20), (1, 3)])
def test_steps_of_the_operator(kwargs, size):
    mixer = make(**kwargs).double()
    x = torch.randn(2, 16, *size, dtype=torch.float64)
    expected = plain(mixer, x)
    torch.testing.assert_close(mixer(x), expected, rtol=1e-9, atol=1e-9)
    mixer.backend = 'groups'
    torch.testing.assert_close(mixer(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('kwargs', CASES)
def test_deployed_is_the_same(kwargs):
    mixer, x = make(**kwargs), torch.randn(2, 16, 9, 20)
    expected = mixer(x)
    mixer.switch_to_deploy()
    state = copy.deepcopy(mixer.state_dict())
    assert (mixer(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    mixer.switch_to_deploy()
    assert all(torch.equal(state[name], value) for name, value in mixer.state_dict().items())
    assert mixer.filter_parameters == ()
    assert 'horizontal' not in state


def test_scaling_the_deployed_output():
    mixer, x = make(), torch.randn(2, 16, 9, 20)
    expected = mixer(x)
    with pytest.raises(RuntimeError, match='needs the deployed form'):
        mixer.scale_output(torch.ones(16), torch.zeros(16))
    mixer.switch_to_deploy()
    for seed in (1, 2):  # twice: the second folds into what the first left
        generator = torch.Generator().manual_seed(seed)
        scale, shift = (torch.randn(16, dtype=torch.float64, generator=generator) for _ in range(2))
        mixer.scale_output(scale, shift)
        expected = expected * scale[:, None, None] + shift[:, None, None]
    assert (mixer(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_gradients_reach_everything():
    mixer = make(channels=6, ghost_ratio=0.3).double().train()
    x = torch.randn(1, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mixer, (x,))
    mixer(x).square().sum().backward()
    assert all(parameter.grad.any() for parameter in mixer.parameters())


def test_autocast_trains():
    mixer, x = make().train(), torch.randn(4, 16, 9, 20)
    cotangent = torch.randn(x.shape)

    def gradients(enabled):
        mixer.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            out = mixer(x)
        (out * cotangent).sum().backward()
        return mixer.weight.grad.clone()

    exact, rounded = gradients(False), gradients(True)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 0.03 * exact.norm()
    mixer.backend = 'groups'
    assert (gradients(False) - exact).norm() < 1e-4 * exact.norm()


def test_layout_does_not_matter():
    mixer, x = make(), torch.randn(2, 16, 9, 20)
    out = mixer(x)
    torch.testing.assert_close(mixer(x.contiguous(memory_format=torch.channels_last)), out, rtol=1e-5, atol=1e-4)
    assert out.shape == x.shape


def test_tables_belong_to_the_weights():
    """They travel in the state dict, so weights keep their meaning whatever a later torch would draw."""
    mixer, other, x = make(), make(), torch.randn(1, 16, 9, 9)
    other.horizontal.copy_(other.horizontal.flip(-1))
    other.ghost_channels.copy_(other.ghost_channels.flip(0))
    assert not torch.allclose(other(x), mixer(x))
    mixer.load_state_dict(other.state_dict())
    assert torch.equal(other(x), mixer(x))
    assert mixer.half().horizontal.dtype == torch.int32
    assert make().filter_parameters == ('weight',) == make().maskable_parameters


def test_every_module_draws_the_same_and_nothing_global():
    torch.manual_seed(5)
    first = ShiftwiseConv(80, 51)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    nn.init.trunc_normal_(torch.empty(first.weight.shape), std=0.02)
    assert torch.equal(torch.get_rng_state(), after)  # the filters alone came from the global generator
    second = ShiftwiseConv(80, 51)
    assert all(
        torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True) if a.dtype == torch.int32
    )
    assert not torch.equal(first.weight, second.weight)
    assert (len(first.rep_channels), first.weight.shape) == (60, (2, 60, 17, 3, 3))


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        ({'small_kernel': 4}, ValueError, 'small_kernel must be odd and positive, but got 4'),
        ({'kernel_size': 12}, ValueError, 'kernel_size must be odd'),
        ({'small_kernel': 15}, ValueError, 'small_kernel must be at most kernel_size=13, but got 15'),
        ({'ghost_ratio': 1.0}, ValueError, r'ghost_ratio must be in \[0, 1\), but got 1.0'),
        ({'rep_paths': 0}, ValueError, 'rep_paths must be at least 1'),
        ({'stride': 2}, ValueError, 'stride must be 1, since groups are shifted .*, but got 2'),
        ({'edges': 1.5}, TypeError, 'edges must be an int'),
        ({'norm_cfg': {'type': 'LN2d'}}, ValueError, "must be 'BN' or 'SyncBN'"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        make(**kwargs)


def test_bad_input():
    mixer = make()
    with pytest.raises(ValueError, match=r'x must have shape \(N, 16, H, W\), but got \(1, 15, 9, 9\)'):
        mixer(torch.zeros(1, 15, 9, 9))
    with pytest.raises(ValueError, match='this mixer reads no embedding'):
        mixer(torch.zeros(1, 16, 9, 9), torch.zeros(3))
    with pytest.raises(ValueError, match='this mixer reads no embedding'):
        mixer.switch_to_deploy(torch.zeros(3))
    with pytest.raises(ValueError, match='more than one pixel for BatchNorm'):
        mixer.train()(torch.zeros(1, 16, 1, 1))
