"""What WTConv, WBMM and UniConvNet are stored in beside their classifiers' layouts, and what their files show."""

import authors_uniconvnet as uniconv
import authors_wbmm as wbmm
import authors_wtconv as wtconv
import pytest
import torch
from authors_cases import CASES, TINY, classifier, converter

from pelk_mm.models import UniConvNet, WBMMNet
from pelk_mm.utils.errors import CheckpointError


@pytest.fixture
def convert(tmp_path):
    return converter(tmp_path)


def images(height=75, width=101):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def backbone(network, done, checkpoint, **kwargs):
    """The network of the converter's config, with the weights."""
    args = {key: value for key, value in done.model['backbone'].items() if key != 'type'}
    net = network(**args | kwargs).eval()
    weights = {k.removeprefix('backbone.'): v for k, v in checkpoint['state_dict'].items() if k.startswith('backbone.')}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(key.startswith('norm') for key in missing)
    return net


def assert_close(actual, expected):
    """To 1e-5 of the largest value."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_wavelets_in_the_layouts_of_mmseg_and_of_the_fast_modules(convert):
    state = CASES['wtconvnext'][1]
    _, expected = convert('wtconvnext', state)
    classes = {key: expected['state_dict'][key] for key in expected['state_dict'] if 'norm3' not in key}
    renamed = wtconv.as_mmseg(state)
    fast = {
        key.replace('base_conv.weight', 'base_weight')
        .replace('base_conv.bias', 'base_bias')
        .replace('base_scale.weight', 'base_scale')
        .replace('wavelet_convs', 'wt_weights')
        .replace('wavelet_scale', 'wt_scales')
        .removesuffix('.weight' if 'wavelet_' in key else '-'): value
        for key, value in renamed.items()
        if 'wt_filter' not in key
    }
    assert fast.keys() != renamed.keys()
    for layout in (renamed, fast):
        layout = {
            **layout,
            'backbone.norm3.weight': state['head.norm.weight'],
            'backbone.norm3.bias': state['head.norm.bias'],
        }
        _, checkpoint = convert('wtconvnext', layout)
        for key, value in classes.items():
            assert key.startswith('head.') or torch.equal(checkpoint['state_dict'][key], value), key


def test_levels_and_windows_are_read_off(convert):
    for name, shown in {
        'wtconvnext': {},
        'wtconvnext-3x3': {'kernel_size': 3, 'wavelet_levels': (2, 1, 0, 1)},
        'wbmm': {'parallel_kernels': ()},
        'wbmm-dense': {'window_size': 5, 'windows_in_first_stage': True, 'parallel_kernels': ()},
        'wbmm-parallel': {'parallel_kernels': (5, 3)},
        'uniconvnet': {'group_width': 4},
    }.items():
        config = convert(*CASES[name][:2])[0].model['backbone']
        assert {key: value for key, value in config.items() if key not in ('type', 'arch')} == shown


def test_a_segmentor_of_wbmm(convert):
    """Its backbone is translated, with norms of its own for each output; the heads go through."""
    state = {key: value for key, value in CASES['wbmm-dense'][1].items() if not key.startswith(('norm.', 'head.'))}
    norms = {f'norm{i}.{part}': torch.rand(width) for i, width in enumerate(TINY[1]) for part in ('weight', 'bias')}
    heads = {'decode_head.conv_seg.weight': torch.randn(3, 4, 1, 1), 'auxiliary_head.conv_seg.bias': torch.randn(3)}
    file = {f'backbone.{key}': value for key, value in (state | norms).items()} | heads
    done, checkpoint = convert('wbmm', {'state_dict': file})
    assert all(torch.equal(checkpoint['state_dict'][key], value) for key, value in heads.items())
    assert 'head' not in done.model
    net = backbone(WBMMNet, done, checkpoint)
    outputs = net(images())
    assert [tuple(output.shape[2:]) for output in outputs] == [(19, 26), (10, 13), (5, 7), (3, 4)]
    assert all(torch.equal(net.state_dict()[key], value) for key, value in norms.items())


def test_parallel_branches_of_wbmm_on_other_maps_than_one_window(convert):
    """There the authors skip them, but not in the merged form. Ours agrees with both merged forms."""
    state = CASES['wbmm-parallel'][1]
    done, checkpoint = convert('wbmm', state)
    model = classifier(done, checkpoint)
    whole, others = images(224, 224), images(96, 160)
    with torch.no_grad():
        for x in (whole, others):
            assert_close(model(x), wbmm.wbmm(wbmm.fuse(state), x)[1])
        assert_close(model(whole), wbmm.wbmm(state, whole, branches='exact')[1])
        skipped = wbmm.wbmm(state, others, branches='exact')[1]
        assert (model(others) - skipped).abs().max() > 0.01 * skipped.abs().max()


@pytest.mark.parametrize('size', [(75, 101), (64, 64), (32, 97)])
def test_every_stage_of_uniconvnet(convert, size):
    state = CASES['uniconvnet'][1]
    done, checkpoint = convert('uniconvnet', state)
    net = backbone(UniConvNet, done, checkpoint, out_indices=(0, 1, 2, 3), gap_before_final_norm=False)
    for stage in range(4):
        setattr(net, f'norm{stage}', torch.nn.Identity())
    x = images(*size).double()
    state = {key: value.double() for key, value in state.items()}
    with torch.no_grad():
        for actual, expected in zip(net.double()(x), uniconv.uniconvnet_stages(state, x), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_files_of_another_family(convert):
    with pytest.raises(CheckpointError, match='is not of family wbmm'):
        convert('wbmm', CASES['uniconvnet'][1])
    with pytest.raises(CheckpointError, match='is not of family wbmm: missing, or of another shape: head.weight'):
        convert('wbmm', {**CASES['wbmm'][1], 'head.weight': torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r'of another shape: stages.0.0.act.1.gamma \(\) for \(32,\)'):
        convert('wbmm', {**CASES['wbmm'][1], 'stages.0.0.act.1.gamma': torch.tensor(1.0)})
    with pytest.raises(CheckpointError, match='is not of family overlock: missing'):
        convert('overlock', CASES['wbmm'][1])
    part = {key: value for key, value in CASES['wtconvnext'][1].items() if 'wavelet_scale.0' not in key}
    with pytest.raises(CheckpointError, match=r'does not fit .*missing: .*wavelet_scale.0.weight'):
        convert('wtconvnext', part)
    with pytest.raises(CheckpointError, match='unused: stages.2.0.dwconv.extra'):
        convert('wbmm', {**CASES['wbmm'][1], 'stages.2.0.dwconv.extra': torch.zeros(1)})
