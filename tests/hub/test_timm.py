"""Every name as timm's own tests demand it of a model, restated."""

import copy
import itertools
import warnings

import pytest
import torch
from torch import nn

timm = pytest.importorskip('timm', reason='needs timm: pip install "pelk_mm[timm]"')

from timm.models import FeatureInfo, group_parameters, model_entrypoint  # noqa: E402
from timm_nets import CHANNELS, FAMILIES, NAMES, images, on_meta, small  # noqa: E402

from pelk_mm.hub import timm as hub  # noqa: E402
from pelk_mm.models import PeLK  # noqa: E402

SUBSETS = [subset for n in range(1, 5) for subset in itertools.combinations(range(4), n)]
every_name = pytest.mark.parametrize('name', NAMES)
every_family = pytest.mark.parametrize('name', FAMILIES)


def test_names_are_listed_and_none_is_timms_own():
    assert len(NAMES) == 56
    assert set(NAMES) <= set(timm.list_models())
    assert {'pelk_tiny', 'pelk_101_base', 'pelk_mm_inceptionnext_tiny'} <= set(timm.list_models('pelk*'))
    assert timm.list_pretrained('pelk*') == []
    assert model_entrypoint('inception_next_tiny').__module__ == 'timm.models.inception_next'
    assert all(getattr(hub, name) is model_entrypoint(name) and name in hub.__all__ for name in NAMES)
    assert model_entrypoint('pelk_101_base').__doc__ == (
        "PeLK(arch='base', kernel_sizes=(101, 69, 67, 13), central_size=7)."
    )


@every_name
def test_default_cfg_fits_the_net(name):
    model = on_meta(name)
    cfg, state = model.default_cfg, model.state_dict()
    assert cfg is model.pretrained_cfg
    assert cfg['architecture'] == name
    assert cfg['num_classes'] == model.num_classes == 1000
    assert cfg['min_input_size'] == (3, 32, 32)
    assert state[f'{cfg["classifier"]}.weight'].shape == (1000, model.head_hidden_size)
    assert state[f'{cfg["first_conv"]}.weight'].shape[1] == model.in_chans == 3
    info = FeatureInfo(copy.deepcopy(model.feature_info), (0, 1, 2, 3))
    last, maps = model.forward_intermediates(torch.empty(1, *cfg['input_size'], device='meta'))
    assert last.shape == (1, model.num_features, *cfg['pool_size'])
    assert [feature.shape[1] for feature in maps] == info.channels() == list(model.backbone.channels)
    assert [224 // feature.shape[-1] for feature in maps] == info.reduction() == [4, 8, 16, 32]
    assert model.forward_head(last).shape == (1, 1000)
    assert model.forward_head(last, pre_logits=True).shape == (1, model.head_hidden_size)


@every_name
def test_groups_hold_every_parameter_once_and_follow_depth(name):
    model = on_meta(name)
    parameters = [parameter for parameter, _ in model.named_parameters()]
    blocks = sum(model.backbone.depths)
    for coarse, groups in ((True, 1 + 4 + 1), (False, 1 + blocks + 1)):
        layers = group_parameters(model, model.group_matcher(coarse=coarse))
        assert sorted(itertools.chain(*layers.values())) == sorted(parameters)
        assert list(layers) == list(range(groups))
        assert all(parameter.startswith('backbone.downsample_layers.0.') for parameter in layers[0])
        ends = ('head.', 'neck.', 'backbone.norm3.')
        assert all(parameter.startswith(ends) for parameter in layers[groups - 1])
    stages = [int(layers[i][-1].split('.')[2]) for i in range(1, blocks + 1)]
    assert stages == sorted(stages)


@every_name
def test_no_weight_decay_names_what_the_backbone_does(name):
    model = on_meta(name)
    embeddings = {parameter for parameter, _ in model.named_parameters() if 'pos_embeds' in parameter}
    assert len(embeddings) == (4 if isinstance(model.backbone, PeLK) else 0)
    assert model.no_weight_decay() == embeddings


@every_family
def test_forward_and_backward(name):
    model = small(name, drop_rate=0.1, drop_path_rate=0.1).train()
    out = model(images())
    assert out.shape == (2, 5)
    out.mean().backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter


@every_family
def test_features_only(name):
    model = small(name).eval()
    x = images()
    with torch.no_grad():
        expected = model.forward_intermediates(x, intermediates_only=True)
        for subset in SUBSETS:
            features = small(name, features_only=True, out_indices=subset).eval()
            assert features.feature_info.channels() == [CHANNELS[i] for i in subset]
            assert features.feature_info.reduction() == [(4, 8, 16, 32)[i] for i in subset]
            assert features.default_cfg['architecture'] == name
            features.load_state_dict({f'model.{key}': value for key, value in model.state_dict().items()}, strict=False)
            outputs = features(x)
            assert len(outputs) == len(subset)
            assert all(torch.equal(output, expected[i]) for output, i in zip(outputs, subset, strict=True))


@every_family
def test_features_leave_no_parameter_without_a_gradient(name):
    for indices in ((0, 1, 2, 3), (1, 2)):
        features = small(name, features_only=True, out_indices=indices).train()
        outputs = features(images())
        outputs[0].mean().backward()  # a head may read but some of them
        missing = [key for key, value in features.named_parameters() if value.grad is None]
        assert missing == []


@pytest.mark.parametrize(('indices', 'stages'), [(2, [2, 3]), (-1, None), ((-1, 0), [3, 0]), ((2,), [2])])
def test_ways_to_name_stages(indices, stages):
    if stages is None:
        with pytest.raises(ValueError, match='out_indices must be stages from -4 to 3'):
            small('pelk_tiny', features_only=True, out_indices=indices)
        return
    features = small('pelk_tiny', features_only=True, out_indices=indices).eval()
    assert [output.shape[1] for output in features(images())] == [CHANNELS[i] for i in stages]
    assert features.feature_info.channels() == [CHANNELS[i] for i in stages]


@pytest.mark.parametrize(('output_stride', 'reductions'), [(16, [4, 8, 16, 16]), (8, [4, 8, 8, 8])])
def test_output_stride(output_stride, reductions):
    for name in ('pelk_tiny', 'unireplknet_tiny'):
        features = small(name, features_only=True, output_stride=output_stride).eval()
        assert features.feature_info.reduction() == reductions
        assert [64 // output.shape[-1] for output in features(images())] == reductions


@every_family
def test_reset_classifier(name):
    model = small(name).eval()
    x = images()
    with torch.no_grad():
        hidden = model.forward_head(model.forward_features(x), pre_logits=True)
        assert hidden.shape == (2, model.head_hidden_size)
        model.reset_classifier(0)
        assert isinstance(model.get_classifier(), nn.Identity)
        assert torch.equal(model(x), hidden)
        model.reset_classifier(0, '')
        assert model(x).shape == (2, model.head_hidden_size, 2, 2)
        model.reset_classifier(7)
        assert model.num_classes == 7
        assert model.get_classifier().out_features == 7
        assert model(x).shape == (2, 7, 2, 2)
        model.reset_classifier(3, 'avg')
        assert model(x).shape == (2, 3)
        assert torch.equal(model(x), model.get_classifier()(hidden))
    assert not model.get_classifier().training


def test_pools():
    x = images()
    with torch.no_grad():
        maps = small('pelk_tiny').eval().forward_features(x)
        pooled = {}
        for pool in ('avg', 'max', 'avgmax'):
            model = small('pelk_tiny', global_pool=pool, num_classes=0).eval()
            pooled[pool] = model(x)
        norm = model.backbone.norm3
        expected = {'avg': maps.mean((2, 3)), 'max': maps.amax((2, 3))}
        expected['avgmax'] = (expected['avg'] + expected['max']) / 2
        for pool, value in expected.items():
            torch.testing.assert_close(pooled[pool], norm(value[..., None, None]).flatten(1))
    assert small('pelk_tiny', global_pool='', num_classes=0).eval()(x).shape == (2, 40, 2, 2)


@every_family
def test_grad_checkpointing_changes_no_bit(name):
    plain, checkpointed = small(name).train(), small(name).train()
    checkpointed.set_grad_checkpointing()
    assert sum(getattr(module, 'with_cp', False) for module in checkpointed.modules()) == 5
    outputs = [model(images()) for model in (plain, checkpointed)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for (key, value), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(value.grad, other.grad), key
    for (key, value), other in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(value, other), key
    checkpointed.set_grad_checkpointing(False)
    assert not any(getattr(module, 'with_cp', False) for module in checkpointed.modules())


@every_family
def test_jit_trace(name):
    model, x = small(name).eval(), images()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # checks of shapes are not recorded
        traced = torch.jit.trace(model, x, check_trace=False)
        # the trace has the dense form, where a processor may be faster by another back-end
        torch.testing.assert_close(traced(x), model(x))


@every_family
def test_reparameterize_model(name):
    from timm.utils.model import reparameterize_model

    model, x = small(name).eval(), images()
    with torch.no_grad():
        deployed = reparameterize_model(model)
        torch.testing.assert_close(deployed(x), model(x), rtol=1e-4, atol=1e-5)
    merges = not name.startswith('uniconvnet')  # which has nothing to merge
    assert (len(deployed.state_dict()) < len(model.state_dict())) == merges


@every_family
def test_forward_intermediates(name):
    model, x = small(name).eval(), images()
    with torch.no_grad():
        last, maps = model.forward_intermediates(x)
        assert torch.equal(last, model.forward_features(x))
        assert torch.equal(last, maps[-1])
        assert torch.equal(model.forward_head(last), model(x))
        early, one = model.forward_intermediates(x, indices=[1], stop_early=True)
        assert torch.equal(early, maps[1])
        assert torch.equal(one[0], maps[1])
        normed = model.forward_intermediates(x, norm=True, intermediates_only=True)
        assert torch.equal(normed[0], maps[0])
        assert torch.equal(normed[3], model.backbone.norm3(maps[3]))


def test_pruning_keeps_a_net_that_runs_and_trains():
    model, x = small('pelk_tiny', frozen_stages=3).eval(), images()
    with torch.no_grad():
        expected = model.forward_features(x), model.forward_intermediates(x, indices=[1], intermediates_only=True)[0]
        assert model.prune_intermediate_layers(1, prune_head=False) == [3]
        assert torch.equal(model.forward_features(x), expected[0])
        assert model(x).shape == (2, 5)
        assert model.prune_intermediate_layers([1]) == [1]
        assert torch.equal(model.train().eval()(x), expected[1])
    assert model.num_features == model.head_hidden_size == CHANNELS[1]
    assert not any('stages.2' in key or 'norm3' in key or 'head' in key for key in model.state_dict())


def test_dropout_stands_before_the_classifier():
    model = small('pelk_tiny', drop_rate=0.5, num_classes=0).train()
    zeros = (model(images(batch=16)) == 0).float().mean()
    assert 0.4 < zeros < 0.6
    assert not (model.eval()(images()) == 0).any()


@pytest.mark.parametrize('in_chans', [1, 4])
def test_in_chans(in_chans):
    model = small('pelk_tiny', in_chans=in_chans).eval()
    assert model(images(channels=in_chans)).shape == (2, 5)
    with pytest.raises(ValueError, match=rf'PeLK takes images \(N, {in_chans}, H, W\) with H and W at least 32'):
        model(images())


def test_device_and_dtype():
    model = small('pelk_tiny', dtype=torch.float64)
    model.reset_classifier(3)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert model.eval()(images().double()).dtype == torch.float64
    assert {parameter.device.type for parameter in on_meta('pelk_tiny').parameters()} == {'meta'}


def test_layer_decay_by_timms_own_optimizer_factory():
    from timm.optim import create_optimizer_v2

    model = small('pelk_tiny')
    optimizer = create_optimizer_v2(model, 'adamw', lr=1e-3, weight_decay=0.05, layer_decay=0.5)
    groups = {id(value): group for group in optimizer.param_groups for value in group['params']}
    assert len(groups) == len(list(model.parameters()))
    by_name = {key: groups[id(value)] for key, value in model.named_parameters()}
    assert by_name['head.fc.weight']['lr_scale'] == 1
    assert by_name['backbone.stages.3.0.pointwise_conv1.weight']['lr_scale'] == 0.5
    assert by_name['backbone.pos_embeds.3']['lr_scale'] == 0.5
    assert by_name['backbone.downsample_layers.0.0.weight']['lr_scale'] == 0.5**6
    assert by_name['backbone.pos_embeds.3']['weight_decay'] == 0
    assert by_name['backbone.stages.3.0.pointwise_conv1.weight']['weight_decay'] == 0.05


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        ({'kernel': 51}, TypeError, "PeLK takes no argument 'kernel'"),
        ({'arch': 'huge'}, ValueError, 'arch must be one of atto, .*huge'),
        ({'out_indices': (0,)}, TypeError, "takes no argument 'out_indices': it needs features_only=True"),
        ({'in_channels': 1}, TypeError, "takes no argument 'in_channels': write in_chans"),
        ({'init_cfg': {}}, TypeError, "takes no argument 'init_cfg': write pretrained=True"),
        ({'features_only': True, 'out_indices': (0, 4)}, ValueError, r'stages from -4 to 3.*\(0, 4\)'),
        ({'features_only': True, 'out_indices': ()}, ValueError, r'stages from -4 to 3.*\(\)'),
        ({'features_only': True, 'out_indices': ('a',)}, TypeError, "every entry of out_indices .* 'a'"),
        ({'features_only': True, 'feature_cls': 'list'}, ValueError, "feature_cls must be 'getter', but got 'list'"),
        ({'global_pool': 'mean'}, ValueError, "global_pool must be one of 'avg', 'max', .* 'mean'"),
        ({'num_classes': -1}, ValueError, 'num_classes must be at least 0, but got -1'),
        ({'drop_rate': 2}, ValueError, r'drop_rate must be in 0..1, but got 2'),
        ({'drop_path_rate': 1}, ValueError, 'drop_path_rate must be below 1, but got 1'),
        ({'in_chans': 0}, ValueError, 'in_chans must be at least 1, but got 0'),
        ({'output_stride': 4}, ValueError, 'output_stride must be one of 8, 16, 32, but got 4'),
        ({'output_norms': 1}, TypeError, 'output_norms must be True or False, but got 1'),
    ],
)
def test_refusals_in_one_line(kwargs, error, message):
    with pytest.raises(error, match=message) as caught:
        timm.create_model('pelk_tiny', device='meta', **kwargs)
    assert '\n' not in str(caught.value)


def test_unknown_name():
    with pytest.raises(RuntimeError, match=r'^Unknown model \(pelk_huge\)$'):
        timm.create_model('pelk_huge')


@pytest.mark.parametrize('size', [16, 31])
def test_small_images(size):
    with pytest.raises(ValueError, match=f'at least 32 pixels, but got .*{size}'):
        small('pelk_tiny')(images(size=size))


def test_another_format():
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW', but got 'NLC'"):
        small('pelk_tiny').forward_intermediates(images(), output_fmt='NLC')
