import copy

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from pelk_mm.layers import MIXERS
from pelk_mm.models import PeLK
from pelk_mm.registry import MODELS

SMALL = {'depths': (1, 1, 2, 1), 'channels': (8, 16, 24, 32)}
WITH_H = [name for name, mixer in MIXERS.items() if mixer.reads_pos_embed]


def make(**kwargs):
    kwargs = {'arch': SMALL, 'width_factor': 1.0, 'kernel_sizes': (13, 11, 9, 7), **kwargs}
    return PeLK(**kwargs)


@pytest.mark.parametrize(
    ('arch', 'channels', 'depths'),
    [
        ('tiny', (124, 249, 499, 998), (3, 3, 9, 3)),
        ('small', (124, 249, 499, 998), (3, 3, 27, 3)),
        ('base', (166, 332, 665, 1331), (3, 3, 27, 3)),
        ('atto', (52, 104, 208, 416), (2, 2, 6, 2)),
        ('femto', (62, 124, 249, 499), (2, 2, 6, 2)),
        ('pico', (83, 166, 332, 665), (2, 2, 6, 2)),
        ('nano', (104, 208, 416, 832), (2, 2, 8, 2)),
    ],
)
def test_architectures(arch, channels, depths):
    with torch.device('meta'):
        net = PeLK(arch)
    assert (net.channels, net.depths) == (channels, depths)
    assert net.stages[0][0].mixer.grid.kernel_size == 51
    assert [h.shape[1] for h in net.pos_embeds] == [51, 49, 47, 13]


@pytest.mark.parametrize(
    ('mixer', 'pos_embed'),
    [(name, mode) for name in MIXERS for mode in ('visible', 'bias', None) if mode != 'bias' or name in WITH_H],
)
def test_only_the_mixer_changes(mixer, pos_embed):
    """One argument exchanges the mixer; everything else of the net, its deployment included, stays as it is."""
    net = make(mixer=mixer, pos_embed=pos_embed).eval()
    assert isinstance(net.stages[2][1].mixer, MIXERS[mixer])
    others = {name for name in net.state_dict() if '.mixer.' not in name}
    plain = make(pos_embed=pos_embed if mixer in WITH_H else None)
    assert others == {name for name in plain.state_dict() if '.mixer.' not in name}
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (expected,) = net(x)
        net.switch_to_deploy()
        torch.testing.assert_close(net(x)[0], expected, rtol=1e-4, atol=1e-5)


def test_mixers_take_pelks_defaults_in_their_own_terms():
    with torch.device('meta'):
        mixers = {name: PeLK('tiny', mixer=name, width_factor=1.0).stages[0][0].mixer for name in MIXERS}
    assert {name: mixer.channels for name, mixer in mixers.items()} == dict.fromkeys(MIXERS, 96)
    assert {mixer.conv_channels for name, mixer in mixers.items() if name != 'inception'} == {36}
    inception, shiftwise = mixers['inception'], mixers['shiftwise']
    assert (inception.branch_channels, inception.square_kernel, inception.band_kernel) == (12, 5, 51)
    assert (shiftwise.small_kernel, shiftwise.kernel_size) == (5, 51)
    assert mixers['dilated'].weight.shape == (36, 1, 51, 51)


@pytest.mark.parametrize(
    ('arch', 'kwargs', 'counted', 'pos_embed'),
    [
        ('tiny', {}, 28.73, 0.82),
        ('small', {}, 50.67, 0.82),
        ('base', {}, 89.42, 1.09),
        ('base', {'kernel_sizes': (101, 69, 67, 13), 'central_size': 7}, 89.71, 2.4),
    ],
)
def test_parameter_counts(arch, kwargs, counted, pos_embed):
    """The published convention, in millions: 0.6 of the weights, dense norms and biases, no h and no 5x5 branch."""
    with torch.device('meta'):
        net = PeLK(arch, **kwargs)
    parameters = dict(net.named_parameters())
    h = sum(p.numel() for name, p in parameters.items() if 'pos_embeds' in name)
    kept = {name: p for name, p in parameters.items() if 'pos_embeds' not in name and 'small_' not in name}
    weights = sum(p.numel() for p in kept.values() if p.ndim > 1) + 1000 * net.channels[-1]
    others = sum(p.numel() for p in kept.values() if p.ndim == 1) + 1000
    assert (0.6 * weights + others) / 1e6 == pytest.approx(counted, abs=0.01)
    assert h / 1e6 == pytest.approx(pos_embed, abs=0.05)


def test_outputs():
    x = torch.randn(2, 3, 64, 96)
    net = make(out_indices=(0, 1, 2, 3), gap_before_final_norm=False)
    net.init_weights()
    outs = net.train()(x)
    assert isinstance(outs, tuple)
    assert [tuple(o.shape) for o in outs] == [(2, 8, 16, 24), (2, 16, 8, 12), (2, 24, 4, 6), (2, 32, 2, 3)]
    assert [tuple(o.shape) for o in make()(x)] == [(2, 32)]
    assert [tuple(o.shape) for o in make(out_indices=(-2, 3))(x)] == [(2, 24), (2, 32)]
    indices = [0, -1]
    make(out_indices=indices)
    assert indices == [0, -1]


@pytest.mark.parametrize('pos_embed', ['visible', 'bias', None])
def test_every_parameter_gets_a_gradient_and_no_nan(pos_embed):
    net = make(pos_embed=pos_embed, out_indices=(0, 1, 2, 3), layer_scale_init_value=1.0).train()
    outs = net(torch.randn(2, 3, 64, 64))
    sum((o * torch.randn_like(o)).sum() for o in outs).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    if pos_embed == 'visible':
        assert all(h.grad.abs().sum() > 0 for h in net.pos_embeds)


def test_h_is_shared_by_a_stage_and_kept_by_deepcopy():
    net = make().eval()
    twin = copy.deepcopy(net)
    x = torch.randn(1, 3, 32, 32)
    before = twin(x)[0]
    seen = [[], [], [], []]
    for i, stage in enumerate(net.stages):
        for block in stage:
            block.mixer.register_forward_pre_hook(lambda mixer, args, i=i: seen[i].append(args[1]))
    net(x)
    assert [len(of_stage) for of_stage in seen] == [1, 1, 2, 1]
    assert all(h is net.pos_embeds[i] for i, of_stage in enumerate(seen) for h in of_stage)
    with torch.no_grad():
        net.pos_embeds[2].add_(1.0)
    assert torch.equal(twin(x)[0], before)
    assert not torch.equal(net(x)[0], before)


@pytest.mark.parametrize('frozen', [0, 1, 3, 4])
def test_frozen_stages(frozen):
    net = make(frozen_stages=frozen, out_indices=(0, 1, 2, 3))
    net.train()
    for i in range(4):
        modules = [net.downsample_layers[i], net.stages[i]]
        parameters = [p for m in modules for p in m.parameters()] + [net.pos_embeds[i]]
        assert all(p.requires_grad is (i >= frozen) for p in parameters)
        assert all(m.training is (i >= frozen) for module in modules for m in module.modules())
    if frozen < 4:
        sum(o.sum() for o in net(torch.randn(2, 3, 32, 32))).backward()


def test_norm_eval():
    net = make(norm_eval=True).train()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert net.stages[0][0].training
    assert make().train().stages[0][0].mixer.norm.training


def test_with_cp_changes_nothing_but_memory():
    torch.manual_seed(0)
    plain = make(out_indices=(0, 3), layer_scale_init_value=1.0).train()
    recomputed = make(out_indices=(0, 3), layer_scale_init_value=1.0, with_cp=True).train()
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert all(block.with_cp for stage in recomputed.stages for block in stage)
    for net in (plain, recomputed):
        sum(o.square().sum() for o in net(x)).backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), recomputed.named_parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=lambda m, name=name: f'{name}: {m}')
    torch.testing.assert_close(dict(recomputed.named_buffers()), dict(plain.named_buffers()))


def test_drop_path_rises_linearly():
    rates = [block.drop_path.drop_prob for stage in make(drop_path_rate=0.4).stages for block in stage]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize('pos_embed', ['visible', 'bias', None])
def test_deploy(pos_embed):
    net = make(pos_embed=pos_embed, out_indices=(0, 1, 2, 3), layer_scale_init_value=1.0, kernel_sizes=(51, 49, 47, 13))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    net.eval()
    x = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        expected = net(x)
        net.switch_to_deploy()
        net.switch_to_deploy()
        for actual, reference in zip(net(x), expected, strict=True):
            assert (actual - reference).abs().max() <= 1e-5 * reference.abs().max()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    fresh = make(pos_embed=pos_embed, out_indices=(0, 1, 2, 3), kernel_sizes=(51, 49, 47, 13))
    fresh.switch_to_deploy()
    fresh.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(fresh.eval()(x), net(x), strict=True))


def test_layer_depth_by_convnexts_rule():
    net = make()
    table = {
        'downsample_layers.0.0.weight': 0,
        'downsample_layers.1.1.weight': 2,
        'downsample_layers.2.1.bias': 3,
        'downsample_layers.3.1.bias': 6,
        'stages.0.0.gamma': 1,
        'stages.1.0.mixer.w_theta': 2,
        'stages.2.0.norm.weight': 3,
        'stages.2.5.norm.weight': 4,
        'stages.3.0.gamma': 6,
        'pos_embeds.0': 1,
        'pos_embeds.2': 3,
        'pos_embeds.3': 6,
        'norm3.weight': 7,
    }
    for name, depth in table.items():
        assert net.get_layer_depth(f'backbone.{name}', 'backbone.') == (depth, 8), name
    assert net.get_layer_depth('head.fc.weight', 'backbone.') == (7, 8)
    assert make(arch='small', width_factor=0.1, conv_ratio=1.0).get_layer_depth('stages.2.26.gamma') == (11, 14)
    deep = make(arch={'depths': (1, 1, 40, 1), 'channels': (8, 8, 8, 8)})
    assert deep.get_layer_depth('stages.2.39.gamma') == (12, 14)


def test_arguments_reach_the_blocks():
    net = make(
        grids=((4, 2, 1, 2, 4), None, None, None),
        conv_ratio=1.0,
        small_kernel=None,
        branch_norm_cfg={'type': 'SyncBN', 'eps': 1e-3},
        norm_cfg={'type': 'BN'},
        act_cfg={'type': 'ReLU'},
        layer_scale_init_value=0,
        in_channels=4,
    )
    block = net.stages[0][0]
    assert block.mixer.grid.sizes == (4, 2, 1, 2, 4)
    assert block.mixer.conv_channels == 8
    assert not hasattr(block.mixer, 'small_weight')
    assert isinstance(block.mixer.norm, nn.SyncBatchNorm)
    assert block.mixer.norm.eps == 1e-3
    assert isinstance(block.norm, nn.BatchNorm2d)
    assert isinstance(block.act, nn.ReLU)
    assert block.gamma is None
    assert net.downsample_layers[0][0].in_channels == 4


def test_pretrained_init_strips_the_prefix(tmp_path):
    net = make()
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in net.state_dict().items()}}, tmp_path / 'net.pth')
    other = make(init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'net.pth'), 'prefix': 'backbone.'})
    other.init_weights()
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_registered_in_its_scope_and_in_the_root():
    from mmengine.registry import MODELS as ROOT

    assert MODELS.get('PeLK') is ROOT.get('PeLK') is ROOT.get('pelk_mm.PeLK') is PeLK
    assert issubclass(PeLK, BaseModule)


def test_never_replaces_another_packages_class():
    from mmengine.registry import Registry

    from pelk_mm.registry import register

    root = Registry('thing')
    child = Registry('thing', parent=root, scope='pelk_mm_test')

    class Thing:
        pass

    root.register_module(name='Thing', module=PeLK)
    with pytest.raises(KeyError, match='Thing is already registered'):
        register(child)(Thing)
    child, root = Registry('thing', parent=(other := Registry('thing')), scope='pelk_mm_test'), other
    assert register(child)(register(child)(Thing)) is root.get('Thing')


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'arch': 'huge'}, 'arch must be one of atto, .*tiny, small, base, resnet_widths or a dict, but got .huge'),
        ({'arch': {'depths': (1, 1, 1, 1)}}, r'dict\(depths=..., channels=...\), but got'),
        ({'arch': {'depths': (1, 1), 'channels': (8, 8)}}, 'one entry for each of the 4 stages'),
        (
            {'arch': {'depths': (0, 1, 1, 1), 'channels': (8, 8, 8, 8)}},
            'entry of depths .* at least 1, but got 0',
        ),
        ({'kernel_sizes': (13, 13, 13)}, r'kernel_sizes must have one entry .* got \(13, 13, 13\)'),
        ({'kernel_sizes': (12, 11, 9, 7)}, 'every entry of kernel_sizes must be odd and positive, but got 12'),
        ({'grids': (None, None)}, r'grids must have one entry .* got \(None, None\)'),
        ({'out_indices': 4}, r'out_indices must lie in -4..3, but got 4'),
        ({'out_indices': (0, -5)}, r'out_indices must lie in -4..3, but got \(0, -5\)'),
        ({'out_indices': ()}, 'out_indices must name at least one stage'),
        ({'out_indices': (3, -1)}, r'none of them twice, but got \(3, -1\)'),
        ({'layer_scale_init_value': -1}, 'layer_scale_init_value must be at least 0, but got -1'),
        ({'in_channels': 0}, 'in_channels must be at least 1, but got 0'),
        ({'central_size': 4, 'grids': ((13,), (11,), (9,), (7,))}, 'central_size must be odd and positive, but got 4'),
        ({'width_factor': 0.01}, 'leaves a stage of .* without channels'),
        ({'branch_norm_cfg': {'type': 'BN', 'track_running_stats': False}}, 'must keep running statistics'),
        ({'frozen_stages': 5}, 'frozen_stages must be in -1..4, but got 5'),
        ({'frozen_stages': -2}, 'frozen_stages must be in -1..4, but got -2'),
        (
            {'mixer': 'attention'},
            f"mixer must be one of {', '.join(MIXERS)}, but got 'attention'",
        ),
        (
            {'mixer': 'dense', 'central_size': 7},
            "mixer='dense' makes no use of central_size: leave it at 5, but got 7",
        ),
        ({'mixer': 'stripe', 'grids': [None, None, None, (3, 1, 3)]}, r'no use of grids: .* but got .*\(3, 1, 3\)'),
        (
            {'mixer': 'wavelet', 'window_size': 8},
            "mixer='wavelet' makes no use of window_size: leave it at 7, but got 8",
        ),
        (
            {'mixer': 'window', 'small_kernel': 3},
            "mixer='window' makes no use of small_kernel: leave it at 5, but got 3",
        ),
        ({'mixer': 'window', 'window_size': 0}, 'window_size must be at least 1, but got 0'),
        ({'mixer': 'wavelet', 'small_kernel': 4}, 'small_kernel must be odd and positive, but got 4'),
        ({'mixer': 'window', 'pos_embed': 'bias'}, "mixer='window' reads no embedding"),
        (
            {'mixer': 'dilated', 'small_kernel': 3},
            "mixer='dilated' makes no use of small_kernel: leave it at 5, but got 3",
        ),
        *(
            ({'mixer': mixer, 'pos_embed': 'bias'}, f"mixer='{mixer}' reads no embedding: .* but got 'bias'")
            for mixer in MIXERS
            if mixer not in WITH_H
        ),
        ({'mixer': 'inception', 'conv_ratio': 1.5}, r'conv_ratio must be in \(0, 1\], but got 1.5'),
        ({'mixer': 'shiftwise', 'conv_ratio': 0}, r'conv_ratio must be in \(0, 1\], but got 0'),
        ({'mixer': 'inception', 'small_kernel': 4}, 'small_kernel must be odd and positive, but got 4'),
        ({'mixer': 'inception', 'conv_ratio': 0.25}, 'of 8 channels leaves none for each of the three convolutions'),
        ({'mixer': 'inception', 'branch_norm_cfg': {'type': 'LN2d'}}, "must be 'BN' or 'SyncBN', but got 'LN2d'"),
        ({'width_factor': 0}, 'width_factor must be positive, but got 0'),
        ({'conv_ratio': 0.01}, 'leaves none to convolve'),
        ({'pos_embed': 'both'}, "pos_embed must be 'visible', 'bias' or None, but got 'both'"),
        ({'norm_cfg': {'type': 'LN'}}, "type of norm_cfg must be one of 'LN2d', 'BN', 'SyncBN', but got 'LN'"),
        ({'drop_path_rate': 1.0}, 'drop_path_rate must be below 1, but got 1.0'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (
            {'arch': {'depths': (1.0, 1, 1, 1), 'channels': (8, 8, 8, 8)}},
            'every entry of depths .* must be an int',
        ),
        ({'arch': {'depths': 4, 'channels': (8, 8, 8, 8)}}, 'depths of arch must be a sequence, but got 4'),
        ({'kernel_sizes': 13}, 'kernel_sizes must be a sequence, but got 13'),
        ({'grids': 3}, 'grids must be a sequence, but got 3'),
        ({'norm_cfg': None}, r"norm_cfg must be a dict such as dict\(type='BN'\), but got None"),
        ({'act_cfg': 'GELU'}, "act_cfg must be a dict .* but got 'GELU'"),
        ({'branch_norm_cfg': 'BN'}, "norm_cfg must be a dict .* but got 'BN'"),
        ({'out_indices': '3'}, "out_indices must be a sequence, but got '3'"),
        ({'out_indices': (1.0,)}, 'every entry of out_indices must be an int, but got 1.0'),
        ({'frozen_stages': 1.5}, 'frozen_stages must be an int, but got 1.5'),
        ({'frozen_stages': True}, 'frozen_stages must be an int, but got True'),
        ({'in_channels': 3.0}, 'in_channels must be an int, but got 3.0'),
        ({'width_factor': float('nan')}, 'width_factor must be a finite number, but got nan'),
        ({'drop_path_rate': 'a'}, "drop_path_rate must be a finite number, but got 'a'"),
        ({'conv_ratio': True}, 'conv_ratio must be a finite number, but got True'),
        ({'with_cp': 'no'}, "with_cp must be True or False, but got 'no'"),
    ],
)
def test_arguments_of_the_wrong_type(kwargs, message):
    with pytest.raises(TypeError, match=message):
        make(**kwargs)


def test_one_pixel_is_too_few_for_batch_norm():
    net = make()
    with pytest.raises(ValueError, match='more than one pixel for BatchNorm to train on'):
        net.train()(torch.zeros(1, 3, 32, 32))
    assert net.eval()(torch.zeros(1, 3, 32, 32))[0].shape == (1, 32)


def test_images_must_be_floating_point():
    with pytest.raises(TypeError, match='floating-point tensor of images, but got torch.uint8'):
        make()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_meta_device():
    with torch.device('meta'):
        assert make().eval()(torch.zeros(1, 3, 64, 64))[0].shape == (1, 32)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match='kernel_size'):
        make(kernel_size=51)


@pytest.mark.parametrize('shape', [(1, 3, 31, 64), (1, 3, 64, 16), (1, 4, 64, 64), (3, 64, 64)])
def test_bad_images(shape):
    with pytest.raises(ValueError, match=r'images \(N, 3, H, W\) with H and W at least 32 pixels, but got'):
        make()(torch.zeros(shape))
