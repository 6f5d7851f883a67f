import authors_nets as authors
import pytest
import torch
from authors_cases import CASES, KERNELS, TINY, classifier, converter

from pelk_mm.converters.convert_weights import describe
from pelk_mm.models import PeLK, SLaK
from pelk_mm.utils.errors import CheckpointError, ConfigError


@pytest.fixture
def convert(tmp_path):
    return converter(tmp_path)


def images(height=75, width=101):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('name', CASES)
def test_same_function_as_the_authors(convert, name):
    family, state, network, kwargs = CASES[name]
    done, checkpoint = convert(family, {'model': state, 'epoch': 3}, **kwargs)
    model = classifier(done, checkpoint)
    x = images()
    if name == 'uniconvnet':  # in float32 the restatement itself is 1e-5 from its float64 values
        model, x, state = model.double(), x.double(), {key: value.double() for key, value in state.items()}
    with torch.no_grad():
        features, logits = network(state, x)
        assert_close(model.head.pre_logits(model.extract_feat(x)), features)
        assert_close(model(x), logits)
        if done.model['backbone']['type'].startswith('pelk_mm.'):
            model.backbone.switch_to_deploy()
            assert_close(model(x), logits)


def assert_close(actual, expected):
    """To 1e-5 of the largest value."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_the_warm_start_can_be_trained(convert):
    family, state, _, _ = CASES['convnext-to-pelk']
    done, checkpoint = convert(family, state)
    net = classifier(done, checkpoint).backbone
    net.zero_grad()
    net(images())[-1].square().sum().backward()
    mixer = net.stages[0][0].mixer
    margin = (mixer.grid.num_segments - 7) // 2
    assert margin > 0
    outside = torch.ones_like(mixer.w_theta, dtype=torch.bool)
    outside[:, margin:-margin, margin:-margin] = False
    assert not mixer.w_theta[outside].any()
    assert mixer.w_theta.grad[outside].any()
    assert mixer.small_norm.weight.grad.any()  # so the small branch leaves zero
    assert net.pos_embeds[0].grad.any()


def test_the_warm_start_reads_mmpretrains_layout(convert):
    _, state, _, _ = CASES['convnext']
    _, from_authors = convert('convnext-to-pelk', state)
    _, theirs = convert('convnext', state)
    assert 'backbone.stages.0.0.depthwise_conv.weight' in theirs['state_dict']
    for family, expected in (('convnext-to-pelk', from_authors), ('convnext', theirs)):
        _, again = convert(family, theirs)
        assert again['state_dict'].keys() == expected['state_dict'].keys()
        assert all(torch.equal(again['state_dict'][key], value) for key, value in expected['state_dict'].items())


def test_the_warm_start_refuses_what_cannot_be_the_same_function(convert):
    state = CASES['convnext'][1]
    with pytest.raises(ConfigError, match=r'7 x 7 unit cells .* central_size=7'):
        convert('convnext-to-pelk', state, backbone_options={'central_size': 5})
    with pytest.raises(ConfigError, match=r'conv_ratio must be 1.0, but 3 of 8 channels'):
        convert('convnext-to-pelk', state, backbone_options={'conv_ratio': 3 / 8})


def test_init_cfg_takes_the_file(convert, tmp_path):
    done, checkpoint = convert('convnext-to-pelk', CASES['convnext'][1])
    args = {key: value for key, value in done.model['backbone'].items() if key != 'type'}
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'ours.pth'), 'prefix': 'backbone.'}
    net = PeLK(**args, out_indices=(0, 3), gap_before_final_norm=False, init_cfg=init_cfg)
    net.init_weights()
    state = net.state_dict()
    loaded = {k.removeprefix('backbone.'): v for k, v in checkpoint['state_dict'].items() if k.startswith('backbone.')}
    assert set(state) - set(loaded) == {'norm0.weight', 'norm0.bias'}
    assert all(torch.equal(state[key], value) for key, value in loaded.items())


def test_architectures_are_named_where_they_have_a_name(convert):
    atto = ((2, 2, 6, 2), (40, 80, 160, 320))
    state = authors.inceptionnext_state(*atto)
    for key in [key for key in state if 'token_mixer' in key]:  # atto's bands are shorter, and more channels have them
        count = dict(zip(atto[1], (10, 20, 40, 80), strict=True))[state[key].shape[0] * 8]
        sizes = tuple({11: 9}.get(size, size) for size in state[key].shape[1:])
        state[key] = torch.randn(count, *sizes)
    done, _ = convert('inceptionnext', state)
    assert done.model['backbone'] == {'type': 'pelk_mm.InceptionNeXt', 'arch': 'atto'}
    assert done.model['head'] == {'type': 'LinearClsHead', 'num_classes': 3, 'in_channels': 960}
    done, _ = convert('inceptionnext', state, arch='atto')
    assert done.model['backbone']['arch'] == 'atto'
    with pytest.raises(
        CheckpointError, match=r"arch='tiny'\): missing: stages.0.blocks.2.gamma.*of another shape: stem.0"
    ):
        convert('inceptionnext', state, arch='tiny')
    with pytest.raises(ConfigError, match=r"arch must be one of atto.*'giant'"):
        convert('inceptionnext', state, arch='giant')


def test_what_shapes_show(convert):
    for name, shown in (
        ('unireplknet', {}),
        ('unireplknet-9x9', {'kernel_sizes': ((9,), (5, 13), (9,), (3,))}),
        ('shiftwise', {}),
        ('shiftwise-5x5', {'small_kernel': 5, 'rep_paths': 3, 'kernel_sizes': KERNELS, 'edges': 1}),
        ('shiftwise-merged', {'rep_paths': 1}),
    ):
        family, state, _, kwargs = CASES[name]
        config = convert(family, state, **kwargs)[0].model['backbone']
        # several ghost ratios give the file's counts of channels
        assert {key: config[key] for key in config if key not in ('type', 'arch', 'ghost_ratio')} == shown
        assert ('ghost_ratio' in config) == (name == 'shiftwise-5x5')


def test_what_shapes_do_not_show_is_said(convert):
    family, state, _, _ = CASES['shiftwise']
    done, checkpoint = convert(family, state)
    assert done.unseen == {'kernel_sizes': (51, 49, 47, 13), 'edges': 4}
    assert describe(done)[-1].startswith('taken on trust: kernel_sizes=(51, 49, 47, 13), edges=4: ')
    # 49 has as many groups as 51: every shape is the same
    other, wrong = convert(family, state, backbone_options={'kernel_sizes': (51, 51, 47, 13)})
    assert other.unseen['kernel_sizes'] == (51, 51, 47, 13)
    assert all(torch.equal(wrong['state_dict'][key], value) for key, value in checkpoint['state_dict'].items())
    with torch.no_grad():
        outputs = [classifier(d, c)(images()) for d, c in ((done, checkpoint), (other, wrong))]
    assert not torch.allclose(*outputs, rtol=1e-3)
    assert not any(line.startswith('taken on trust') for line in describe(convert('slak', CASES['slak'][1])[0]))


def test_a_named_width_factor(convert, monkeypatch):
    monkeypatch.setattr(SLaK, 'arch_settings', {'tiny': {'depths': TINY[0], 'channels': (7, 10, 13, 19)}})
    state = authors.slak_state(TINY[0], (9, 13, 16, 24))  # 1.3 times those, truncated
    done, checkpoint = convert('slak', {key: value.half() for key, value in state.items()})
    assert done.model['backbone'] == {'type': 'pelk_mm.SLaK', 'arch': 'tiny'}
    weight = checkpoint['state_dict']['backbone.stages.1.1.mixer.tall_weight']
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state['stages.1.1.large_kernel.LoRA1.conv.weight'].half().float())
    done, _ = convert('slak', CASES['slak'][1])
    assert done.model['backbone']['width_factor'] == 1.0
