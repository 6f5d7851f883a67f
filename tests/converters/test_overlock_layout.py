"""OverLoCK's checkpoints: classifiers, and the backbones of segmentors and detectors."""

from pathlib import Path

import authors_overlock as authors
import pytest
import torch
from authors_cases import classifier, converter

from pelk_mm.models import OverLoCK
from pelk_mm.utils.errors import CheckpointError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SIZES = {
    'depths': (1, 2, 1, 1),
    'sub_depths': (2, 2),
    'channels': (8, 16, 24, 32),
    'kernel_sizes': (17, 15, 13, 7),
    'sub_heads': (2, 4),
}


@pytest.fixture
def convert(tmp_path):
    return converter(tmp_path)


def images(height=70, width=102):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_close(actual, expected):
    """To 1e-5 of the largest value."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize('size', [(70, 102), (160, 208), (97, 64)])
@pytest.mark.parametrize('other', [{}, {'kernel_sizes': (9, 5, 11, 9), 'small_kernel': 3}])
def test_same_classifier_as_the_authors(convert, size, other):
    state = authors.overlock_state(**SIZES | other)
    done, checkpoint = convert('overlock', state)
    model = classifier(done, checkpoint)
    x = images(*size)
    with torch.no_grad():
        for _ in range(2):
            found = model.extract_feat(x)
            results = model.head.pre_logits(found), model.head(found), model.head.overview_scores(found)
            for actual, expected in zip(results, authors.overlock(state, x), strict=True):
                assert_close(actual, expected)
            model.backbone.switch_to_deploy()
    merged = authors.merge(state)
    assert sum(p.numel() for p in model.backbone.parameters()) == sum(
        value.numel() for key, value in merged.items() if is_parameter(key) and 'head' not in key
    )


def is_parameter(key):
    return not key.endswith(('running_mean', 'running_var', 'num_batches_tracked'))


@pytest.mark.parametrize('kind', ['segmentation', 'detection'])
def test_same_outputs_as_the_authors_dense_backbones(convert, kind):
    state = authors.overlock_state(**SIZES, dense=kind)
    head = {'decode_head.conv_seg.weight': torch.randn(3, 4, 1, 1), 'auxiliary_head.conv_seg.bias': torch.randn(3)}
    done, checkpoint = convert('overlock', {'state_dict': {f'backbone.{k}': v for k, v in state.items()} | head})
    args = dict(done.model['backbone'])
    assert args.pop('type') == 'pelk_mm.OverLoCK'
    assert args['normed_trunk']
    net = OverLoCK(**args).eval()
    weights = checkpoint['state_dict']
    net.load_state_dict({k.removeprefix('backbone.'): v for k, v in weights.items() if k.startswith('backbone.')})
    assert all(torch.equal(weights[key], value) for key, value in head.items())
    x = images()
    with torch.no_grad():
        for actual, expected in zip(net(x), authors.overlock_dense(state, x), strict=True):
            assert_close(actual, expected)
        net.normed_trunk = False
        for actual, expected in zip(net(x), authors.overlock_dense(state, x, normed_trunk=False), strict=True):
            assert_close(actual, expected)


@pytest.mark.parametrize(
    ('config', 'toolbox', 'kind'),
    [
        ('upernet_overlock_t_ade20k', 'mmseg', 'segmentation'),
        ('mask_rcnn_overlock_t_coco', 'mmdet', 'detection'),
        ('overlock_t_imagenet', 'mmpretrain', None),
    ],
)
def test_the_configs_take_what_is_converted(convert, config, toolbox, kind):
    pytest.importorskip(toolbox, reason='the config is for it')
    from pelk_mm.analysis.counting.count_config import build_counted
    from pelk_mm.engine.config import load_config

    published = ((4, 4, 6, 2), (12, 2), (64, 128, 256, 512), (17, 15, 13, 7), (4, 8))
    state = authors.overlock_state(*published, classes=1000, dense=kind)
    _, checkpoint = convert('overlock', state)
    model = build_counted(load_config(CONFIGS / f'{config}.py'))
    parts = ('backbone.',) if kind else ('backbone.', 'head.')
    expected = {key: value.shape for key, value in model.state_dict().items() if key.startswith(parts)}
    assert {key: value.shape for key, value in checkpoint['state_dict'].items()} == expected


def test_a_file_of_another_form(convert):
    with pytest.raises(CheckpointError, match=r'missing: blocks1.0.proj.1'):
        convert('overlock', authors.merge(authors.overlock_state(**SIZES)))
