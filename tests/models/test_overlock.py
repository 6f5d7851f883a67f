"""OverLoCK's two streams and its head."""

import pytest
import torch

from pelk_mm.models import OverLoCK, OverLoCKHead

SMALL = {'depths': (1, 1, 1, 1), 'channels': (8, 8, 16, 32)}
LN = {'type': 'LN2d', 'eps': 1e-6}
MAPS = {'gap_before_final_norm': False}


def make(**kwargs):
    return OverLoCK(SMALL, **{'focus_heads': (2, 2), **kwargs})


def test_published_sizes():
    """Parameters of the published form, without a head: merged, and as trained."""
    published = {
        'xtiny': (16_453_712, 16_969_600, 420),
        'tiny': (33_467_040, 34_476_448, 640),
        'small': (56_156_452, 57_795_748, 640),
        'base': (94_942_528, 97_434_816, 720),
    }
    for arch, (merged, trained, width) in published.items():
        with torch.device('meta'):
            net, head = OverLoCK(arch), OverLoCKHead(1000, width, loss=None)
            assert net.output_channels(3) == width
            assert count(net) + count(head) == trained
            net.switch_to_deploy()
            assert count(net) + count(head) == merged


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_stochastic_depth_grows_from_stage_to_overview_to_second_look():
    net = make(drop_path_rate=0.5, focus_depths=(2, 1))
    blocks = [*(block for stage in net.stages for block in stage), *(b for stage in net.focus_stages for b in stage)]
    assert [block.drop_path.drop_prob for block in blocks] == pytest.approx([0.5 * i / 6 for i in range(7)])


def test_which_residuals_are_scaled_and_which_block_has_no_overview():
    net = make(focus_depths=(2, 1))
    assert [hasattr(stage[0].residual, 'weight') for stage in net.stages] == [False, False, True, True]
    assert [[b.overview_scale is not None for b in stage] for stage in net.focus_stages] == [[False, True], [True]]


def test_outputs():
    x = torch.randn(2, 3, 70, 97)
    net = make(out_indices=(0, 1, 2, 3), overview_output=True, **MAPS).eval()
    with torch.no_grad():
        assert [tuple(y.shape[1:]) for y in net(x)] == [(8, 18, 25), (8, 9, 13), (24, 5, 7), (40, 3, 4), (32, 3, 4)]
        assert [tuple(y.shape) for y in make().eval()(x)] == [(2, 40)]


@pytest.mark.parametrize('kwargs', [{}, {'normed_trunk': True}, {'context_output': True, 'normed_trunk': True}])
def test_every_parameter_of_a_dense_backbone_gets_a_gradient(kwargs):
    net = make(out_indices=(0, 1, 2, 3), output_norm_cfg=LN, **MAPS, **kwargs).train()
    sum(y.square().sum() for y in net(torch.randn(2, 3, 64, 64))).backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_frozen_stages_take_the_second_look_with_the_third():
    net = make(frozen_stages=3).train()
    trained = {name.split('.')[0] + '.' + name.split('.')[1] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {'focus_downsample.0', 'focus_downsample.1', 'focus_stages.1'}
    net = make(out_indices=(0, 2), **MAPS)
    assert not any(p.requires_grad for p in net.focus_stages[1].parameters())
    assert len(net(torch.randn(1, 3, 64, 64))) == 2


def test_depth_for_layer_decay():
    net = make()
    assert net.get_layer_depth('backbone.focus_stages.0.1.local1.weight', 'backbone.') == (6, 8)
    assert net.get_layer_depth('backbone.overview_proj.weight', 'backbone.') == (6, 8)
    assert net.get_layer_depth('backbone.stages.0.0.local.weight', 'backbone.') == (1, 8)
    assert net.get_layer_depth('head.fc.weight', 'backbone.') == (7, 8)


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        ({'layer_scale_init_value': 1.0}, TypeError, 'OverLoCK takes no layer_scale_init_value'),
        ({'normed_trunk': True}, ValueError, 'normed_trunk and context_output need norms of the outputs'),
        ({'normed_trunk': 1}, TypeError, 'normed_trunk'),
        ({'context_output': True, 'output_norm_cfg': LN, 'out_indices': 2}, ValueError, 'out_indices must reach'),
        ({'overview_output': True, 'out_indices': 1}, ValueError, r'out_indices must reach .* but got \(1,\)'),
        ({'focus_depths': (1, 2, 3)}, ValueError, r'focus_depths must have two entries, .* but got \(1, 2, 3\)'),
        ({'focus_heads': (0, 2)}, ValueError, 'every entry of focus_heads must be .* but got 0'),
        ({'focus_heads': (5, 2)}, ValueError, r'channels must be a multiple of 2 \* heads=10, but got 16'),
        ({'kernel_sizes': (17, 15, 13, 3)}, ValueError, 'kernel_size must be one of 5, 7, .* but got 3'),
        ({'kernel_sizes': (17, 15, 13)}, ValueError, 'kernel_sizes must have one entry for each of the 4 stages'),
        ({'small_kernel': 4}, ValueError, 'small_kernel must be odd and positive, but got 4'),
        ({'branch_norm_cfg': LN}, ValueError, "branch_norm_cfg must be 'BN' or 'SyncBN'"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        make(**kwargs)


# --- The head ---------------------------------------------------------------------------------------------------------


def features(count=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 40, 3, 4, generator=generator), torch.randn(count, 32, 3, 4, generator=generator)


def test_losses_and_predictions():
    structures = pytest.importorskip('mmpretrain.structures', reason='its samples and its ClsHead')
    head = OverLoCKHead(5, 40, 32, hidden_channels=16, topk=(1, 2), cal_acc=True)
    samples = [structures.DataSample().set_gt_label(label) for label in (1, 0, 4)]
    losses = head.loss(features(), samples)
    assert sorted(losses) == ['accuracy_top-1', 'accuracy_top-2', 'loss', 'loss_overview']
    target = torch.tensor([1, 0, 4])
    expected = 0.4 * torch.nn.functional.cross_entropy(head.overview_scores(features()), target)
    torch.testing.assert_close(losses['loss_overview'], expected)
    torch.testing.assert_close(losses['loss'], torch.nn.functional.cross_entropy(head(features()), target))
    sum(losses[name] for name in ('loss', 'loss_overview')).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    head.eval()
    predictions = head.predict(features(), samples)
    assert torch.stack([sample.pred_score for sample in predictions]).shape == (3, 5)
    assert [int(sample.pred_label) for sample in predictions] == head(features()).argmax(1).tolist()


def test_a_whole_classifier_trains():
    pytest.importorskip('mmpretrain', reason='ImageClassifier')
    from mmengine.registry import MODELS, DefaultScope
    from mmpretrain.structures import DataSample

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            {
                'type': 'ImageClassifier',
                'backbone': {'type': 'pelk_mm.OverLoCK', 'arch': SMALL, 'overview_output': True, **MAPS},
                'head': {'type': 'pelk_mm.OverLoCKHead', 'num_classes': 3, 'in_channels': 40, 'overview_channels': 32},
            }
        )
    samples = [DataSample().set_gt_label(label) for label in (1, 2)]
    losses = model(torch.randn(2, 3, 64, 64), samples, mode='loss')
    (losses['loss'] + losses['loss_overview']).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    model.eval()
    assert model(torch.randn(2, 3, 64, 64), mode='predict')[0].pred_score.shape == (3,)


def test_a_head_for_scores_only():
    head = OverLoCKHead(5, 40, loss=None, hidden_channels=16)
    assert head(features()[:1]).shape == (3, 5)
    with pytest.raises(RuntimeError, match='loss=None, and gives scores only'):
        head.predict(features()[:1])
    with pytest.raises(RuntimeError, match='set overview_channels'):
        head.overview_scores(features())


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ((torch.zeros(2, 40),), 'set gap_before_final_norm=False and overview_output=True in the backbone'),
        ((torch.zeros(2, 30, 3, 3), torch.zeros(2, 32, 3, 3)), r'features \(N, 40, H, W\) and the overview, but got'),
        ((torch.zeros(2, 40, 3, 3),), 'and overview_output=True'),
    ],
)
def test_features_of_another_kind(given, message):
    with pytest.raises(ValueError, match=message):
        OverLoCKHead(5, 40, 32, loss=None)(given)
