"""The networks beside PeLK: their architectures, deployment and the contract of a backbone."""

import random

import numpy as np
import pytest
import torch
from random_norms import randomise
from torch import nn

from pelk_mm.layers import DenseConv, DepthwiseConv, DilatedReparamConv, InceptionConv, StripeConv
from pelk_mm.models import InceptionNeXt, RepLK51, SLaK, UniRepLKNet
from pelk_mm.registry import MODELS

SMALL = {'depths': (1, 1, 2, 1), 'channels': (8, 16, 24, 32)}
TINY_NETS = {
    'UniRepLKNet': {'kernel_sizes': ((3,), (7,), (7, 5), (9,))},
    'SLaK': {'kernel_sizes': (13, 11, 9, 7), 'width_factor': 1.0},
    'RepLK51': {'kernel_sizes': (13, 11, 9, 7)},
    'InceptionNeXt': {},
    'ShiftWiseNet': {'kernel_sizes': (13, 11, 9, 7), 'ghost_ratio': 0.4},
    'ShiftWiseNetV1': {'kernel_sizes': (13, 11, 9, 7), 'small_kernel': 5},
    'WTConvNeXt': {'wavelet_levels': (3, 2, 1, 0)},
    'WBMMNet': {'window_size': (3, 3, 2, 2), 'parallel_kernels': (3,)},
    'UniConvNet': {'group_width': 4},
    'OverLoCK': {'kernel_sizes': (11, 9, 7, 5), 'focus_heads': (2, 2), 'small_kernel': 3},
}
#: Which have no BatchNorm, and which keep theirs when they are deployed.
NO_BATCH_NORM = ('WTConvNeXt', 'UniConvNet')
KEEPS_BATCH_NORMS = ('OverLoCK',)
#: Whose residuals are scaled instead of their branches.
NO_LAYER_SCALE = ('OverLoCK',)
ALL = {'out_indices': (0, 1, 2, 3), 'gap_before_final_norm': False}
every_net = pytest.mark.parametrize('name', TINY_NETS)


def make(name, **kwargs):
    if name in NO_LAYER_SCALE:
        kwargs.pop('layer_scale_init_value', None)
    return MODELS.build({'type': name, 'arch': SMALL, **TINY_NETS[name], **kwargs})


def millions(net, head=0):
    return (sum(parameter.numel() for parameter in net.parameters()) + head) / 1e6


def on_meta(build):
    with torch.device('meta'):
        return build()


# --- Architectures ----------------------------------------------------------------------------------------------------


def kernel_plan(net):
    return [[block.mixer.kernel_size for block in stage] for stage in net.stages]


@pytest.mark.parametrize(
    ('arch', 'published', 'third'),
    [
        ('atto', 4.4, [13] * 6),
        ('femto', 6.2, [13] * 6),
        ('pico', 10.7, [13] * 6),
        ('nano', 18.3, [13] * 8),
        ('tiny', 31.0, [13, 3] * 9),
        ('small', 55.6, [13, 3, 3] * 9),
        ('base', 98, [13, 3, 3] * 9),
        ('large', 218, [13, 3, 3] * 9),
        ('xlarge', 386, [13, 3, 3] * 9),
    ],
)
def test_architectures_of_unireplknet(arch, published, third):
    """The kernel plan, and the published parameters in millions, which are those of the merged nets."""
    net = on_meta(lambda: UniRepLKNet(arch))
    d = net.depths
    assert kernel_plan(net) == [[3] * d[0], [13] * d[1], third, [13] * d[3]]
    for stage in net.stages:
        for block in stage:
            assert type(block.mixer) is (DilatedReparamConv if block.mixer.kernel_size > 5 else DepthwiseConv)
    net.switch_to_deploy()
    head = 1000 * net.channels[-1] + 1000
    assert millions(net, head) == pytest.approx(published, abs=0.06 if published < 60 else 0.6)


@pytest.mark.parametrize(('arch', 'dense'), [('tiny', 50.70), ('small', 91.13), ('base', 157.95)])
def test_parameters_of_slak(arch, dense):
    net = on_meta(lambda: SLaK(arch))
    assert millions(net, 1000 * net.channels[-1] + 1000) == pytest.approx(dense, abs=0.005)


@pytest.mark.parametrize(('arch', 'published'), [('atto', 4.16), ('tiny', 28), ('small', 49), ('base', 87)])
def test_parameters_of_inceptionnext(arch, published):
    net = on_meta(lambda: InceptionNeXt(arch))
    c = net.channels[-1]
    head = 3 * c * c + 3 * c + 2 * 3 * c + 1000 * 3 * c + 1000
    assert millions(net, head) == pytest.approx(published, abs=0.01 if arch == 'atto' else 0.5)


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_parameters_of_replk51(arch):
    """A ConvNeXt with other mixers: its 7 x 7 kernels and their biases go, K x K and 5 x 5 and two norms come."""
    convnext = {'tiny': 28_589_128, 'small': 50_223_688, 'base': 88_591_464}[arch]
    net = on_meta(lambda: RepLK51(arch))
    change = sum(
        depth * channels * (size**2 + 5**2 + 4 - 7**2 - 1)
        for depth, channels, size in zip(net.depths, net.channels, (51, 49, 47, 13), strict=True)
    )
    assert sum(p.numel() for p in net.parameters()) + 1000 * net.channels[-1] + 1000 == convnext + change


def test_mixers_of_the_networks():
    assert kernel_plan(make('UniRepLKNet')) == [[3], [7], [7, 5], [9]]
    for name, kind in {'SLaK': StripeConv, 'RepLK51': DenseConv}.items():
        net = make(name, small_kernel=3)
        assert kernel_plan(net) == [[13], [11], [9, 9], [7]]
        mixers = [block.mixer for stage in net.stages for block in stage]
        assert {type(mixer) for mixer in mixers} == {kind}
        assert {(mixer.small_kernel, mixer.conv_channels == mixer.channels) for mixer in mixers} == {(3, True)}
    atto, plain = on_meta(lambda: InceptionNeXt('atto')), make('InceptionNeXt')
    assert [type(block.mixer) for stage in plain.stages for block in stage] == [InceptionConv] * 5
    assert (atto.stages[0][0].mixer.branch_channels, atto.stages[0][0].mixer.band_kernel) == (10, 9)
    assert (plain.stages[0][0].mixer.branch_channels, plain.stages[0][0].mixer.band_kernel) == (1, 11)
    assert [stage[0].pointwise_conv1.out_features for stage in plain.stages] == [32, 64, 96, 96]
    assert make('SLaK', width_factor=1.5).channels == (12, 24, 36, 48)


# --- The contract of a backbone ---------------------------------------------------------------------------------------


@every_net
@pytest.mark.parametrize('size', [(64, 96), (50, 71)])
def test_output_shapes(name, size):
    net, x = make(name, **ALL), torch.randn(2, 3, *size)
    outs = net.train()(x)
    steps = range(2, 6)
    if name in ('UniRepLKNet', 'ShiftWiseNet', 'WBMMNet', 'UniConvNet', 'OverLoCK'):  # overlapping strides round up
        sides = [tuple(-(-side // 2**step) for side in size) for step in steps]
    else:
        sides = [tuple(side // 2**step for side in size) for step in steps]
    widths = [net.output_channels(stage) for stage in range(4)]
    expected = [(2, channels, *side) for channels, side in zip(widths, sides, strict=True)]
    assert [tuple(out.shape) for out in outs] == expected
    assert all(out.is_contiguous() for out in outs)
    assert [tuple(out.shape) for out in make(name)(x)] == [(2, widths[3])]


def test_names_of_the_overlapping_stem():
    net = make('UniRepLKNet')
    assert [type(layer).__name__ for layer in net.downsample_layers[0]] == [
        *('Conv2d', 'LayerNorm2d', 'GELU', 'Conv2d', 'LayerNorm2d')
    ]
    assert [type(layer).__name__ for layer in net.downsample_layers[1]] == ['Conv2d', 'LayerNorm2d']
    assert net.downsample_layers[0][0].out_channels == 4
    assert {m.eps for m in net.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


@every_net
@pytest.mark.parametrize('size', [(96, 64), (45, 70)])
def test_deploy(name, size):
    torch.manual_seed(0)
    net, x = make(name, **ALL, layer_scale_init_value=1.0), torch.randn(2, 3, *size)
    randomise(net)
    with torch.no_grad():
        expected = net(x)
        net.switch_to_deploy()
        net.switch_to_deploy()
        for actual, reference in zip(net(x), expected, strict=True):
            assert (actual - reference).abs().max() <= 1e-5 * reference.abs().max()
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == (name in KEEPS_BATCH_NORMS)
    fresh = make(name, **ALL)
    fresh.switch_to_deploy()
    fresh.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(fresh.eval()(x), net(x), strict=True))


@every_net
def test_state_dict_round_trip(name):
    net, x = randomise(make(name)), torch.randn(1, 3, 40, 40)
    other = make(name).eval()
    with torch.no_grad():
        assert not torch.equal(other(x)[0], net(x)[0])
        other.load_state_dict(net.state_dict())
        assert torch.equal(other(x)[0], net(x)[0])


@every_net
def test_with_cp_changes_nothing_but_memory(name):
    plain, recomputed = (make(name, **ALL, layer_scale_init_value=1.0, with_cp=cp).train() for cp in (False, True))
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for net in (plain, recomputed):
        sum(out.square().sum() for out in net(x)).backward()
    for (parameter, a), b in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        assert a.grad.isfinite().all(), parameter
        torch.testing.assert_close(b.grad, a.grad, msg=lambda m, name=parameter: f'{name}: {m}')
    torch.testing.assert_close(dict(recomputed.named_buffers()), dict(plain.named_buffers()))


@every_net
def test_freezing_and_norm_eval(name):
    net = make(name, frozen_stages=2)
    net.train()
    for i in range(4):
        modules = [net.downsample_layers[i], net.stages[i]]
        assert all(p.requires_grad is (i >= 2) for module in modules for p in module.parameters())
        assert all(m.training is (i >= 2) for module in modules for m in module.modules())
    assert not any(p.requires_grad for p in make(name, frozen_stages=4).stages.parameters())
    norms = [m for m in make(name, norm_eval=True).train().modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == (name not in NO_BATCH_NORM)
    assert not any(norm.training for norm in norms)


@every_net
def test_draws_from_torchs_generator_alone_and_reseeds_none(name):
    """Two nets in a row differ, a third after reseeding equals the first, numpy's and Python's streams stand still."""
    torch.manual_seed(3)
    others = np.random.get_state()[1].tolist(), random.getstate()
    first, second = make(name).state_dict(), make(name).state_dict()
    assert (np.random.get_state()[1].tolist(), random.getstate()) == others
    key = 'downsample_layers.0.0.weight'
    assert not torch.equal(first[key], second[key])
    torch.manual_seed(3)
    third = make(name)
    assert all(torch.equal(value, first[key]) for key, value in third.state_dict().items())
    state = torch.get_rng_state()
    with torch.no_grad():
        third.eval()(torch.zeros(1, 3, 32, 32))
        third.switch_to_deploy()
    assert torch.equal(torch.get_rng_state(), state)


@every_net
def test_initial_weights(name):
    """Truncated normal of standard deviation 0.02, biases zero, norms the identity."""
    net = make(name)
    weights = [
        p for key, p in net.named_parameters() if p.ndim > 1 and 'deformable' not in key and 'contmix' not in key
    ]
    assert torch.cat([w.flatten() for w in weights]).std().item() == pytest.approx(0.02, rel=0.05)
    assert all(p.abs().max() == 0 for key, p in net.named_parameters() if key.endswith(('bias', 'beta')))


def test_outputs_of_inceptionnext_are_normed_where_asked():
    net = make('InceptionNeXt', output_norm_cfg={'type': 'LN2d', 'eps': 1e-6}, **ALL)
    assert [type(getattr(net, f'norm{i}')).__name__ for i in range(4)] == ['LayerNorm2d'] * 4
    for out in net(torch.randn(2, 3, 64, 64)):
        torch.testing.assert_close(out.mean(1), torch.zeros_like(out[:, 0]), rtol=0, atol=1e-5)
    assert isinstance(make('InceptionNeXt').norm3, nn.Identity)


@every_net
def test_registered_in_its_scope_and_in_the_root(name):
    from mmengine.registry import MODELS as ROOT

    assert MODELS.get(name) is ROOT.get(name) is ROOT.get(f'pelk_mm.{name}')


@pytest.mark.parametrize('name', ['UniRepLKNet', 'SLaK', 'RepLK51'])
def test_sync_batch_norm(name):
    net = make(name, branch_norm_cfg={'type': 'SyncBN', 'eps': 1e-3})
    norms = {type(m): m.eps for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert norms == {nn.SyncBatchNorm: 1e-3}


@pytest.mark.parametrize(
    ('name', 'kwargs', 'error', 'message'),
    [
        ('UniRepLKNet', {'arch': 'huge'}, ValueError, 'arch must be one of .*, xlarge, resnet_widths or a dict'),
        ('InceptionNeXt', {'arch': 'nano'}, ValueError, 'arch must be one of atto, tiny, small, base, resnet_w'),
        ('UniRepLKNet', {'kernel_sizes': (13, 13, 13, 13)}, TypeError, 'every entry of kernel_sizes must be a seq'),
        (
            'UniRepLKNet',
            {'kernel_sizes': ((3,),)},
            ValueError,
            r'one entry for each of the 4 stages, but got \(\(3,\),\)',
        ),
        (
            'UniRepLKNet',
            {'kernel_sizes': ((3,), (7,), (7,), (9,))},
            ValueError,
            r'kernel_sizes must have 2 entries for the blocks of stage 3, but got \(7,\)',
        ),
        (
            'UniRepLKNet',
            {'kernel_sizes': ((3,), (7,), (7, 4), (9,))},
            ValueError,
            'must be odd and positive, but got 4',
        ),
        ('UniRepLKNet', {'kernel_sizes': ((1,), (7,), (7, 5), (9,))}, ValueError, 'must be at least 3, but got 1'),
        ('UniRepLKNet', {'branch_norm_cfg': {'type': 'LN2d'}}, ValueError, "branch_norm_cfg must be 'BN' or 'SyncBN'"),
        ('SLaK', {'kernel_sizes': (51, 49, 47)}, ValueError, r'kernel_sizes must have one entry .* got \(51, 49, 47\)'),
        ('RepLK51', {'kernel_sizes': (51, 49, 46, 13)}, ValueError, 'entry of kernel_sizes must be odd .* but got 46'),
        ('SLaK', {'small_kernel': None}, ValueError, "small_kernel must be the stripes' width"),
        ('RepLK51', {'small_kernel': 9}, ValueError, 'small_kernel must be at most kernel_size=7, but got 9'),
        ('RepLK51', {'mixer': 'dense'}, TypeError, "takes no argument 'mixer'"),
        ('InceptionNeXt', {'norm_cfg': {'type': 'LN2d'}}, ValueError, "type of norm_cfg must be 'BN' or 'SyncBN'"),
        ('InceptionNeXt', {'output_norm_cfg': {'type': 'LN'}}, ValueError, 'type of output_norm_cfg must be one of'),
        ('InceptionNeXt', {'branch_ratio': 0.4}, ValueError, r'branch_ratio must be in \(0, 1/3\], but got 0.4'),
    ],
)
def test_bad_arguments(name, kwargs, error, message):
    kinds = {'UniRepLKNet': UniRepLKNet, 'SLaK': SLaK, 'RepLK51': RepLK51, 'InceptionNeXt': InceptionNeXt}
    with pytest.raises(error, match=message):
        kinds[name](**{'arch': SMALL, **TINY_NETS[name], **kwargs})


@every_net
def test_bad_images(name):
    with pytest.raises(ValueError, match=r'images \(N, 3, H, W\) with H and W at least 32 pixels, but got'):
        make(name)(torch.zeros(1, 3, 31, 64))
    if name not in NO_BATCH_NORM:
        with pytest.raises(ValueError, match='more than one pixel|[Mm]ore than 1 value per channel'):
            make(name).train()(torch.zeros(1, 3, 32, 32))
