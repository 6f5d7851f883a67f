"""Every learning rate and weight decay of PeLK-T and -B, from a table written by hand, and mmseg's for ConvNeXt."""

import functools
import re

import pytest
from layer_decay_cases import BASE_LR, BASE_WD, Classifier, build, table

# Prefix of the name -> id, written out from mmseg's rule for ConvNeXt (N = 6 for 9 blocks in stage 2, 12 for 27).
LAYERS_T = {
    'backbone.downsample_layers.0.': 0,
    'backbone.downsample_layers.1.': 2,
    'backbone.downsample_layers.2.': 3,
    'backbone.downsample_layers.3.': 6,
    'backbone.stages.0.': 1,
    'backbone.stages.1.': 2,
    **{f'backbone.stages.2.{j}.': id_ for j, id_ in enumerate((3, 3, 3, 4, 4, 4, 5, 5, 5))},
    'backbone.stages.3.': 6,
    'backbone.pos_embeds.0': 1,
    'backbone.pos_embeds.1': 2,
    'backbone.pos_embeds.2': 3,
    'backbone.pos_embeds.3': 6,
    'backbone.norm0.': 7,
    'backbone.norm1.': 7,
    'backbone.norm2.': 7,
    'backbone.norm3.': 7,
    'head.': 7,
}
LAYERS_B = {
    'backbone.downsample_layers.0.': 0,
    'backbone.downsample_layers.1.': 2,
    'backbone.downsample_layers.2.': 3,
    'backbone.downsample_layers.3.': 12,
    'backbone.stages.0.': 1,
    'backbone.stages.1.': 2,
    **{
        f'backbone.stages.2.{j}.': id_
        for j, id_ in enumerate(
            (3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 11)  # 27 blocks
        )
    },
    'backbone.stages.3.': 12,
    'backbone.pos_embeds.0': 1,
    'backbone.pos_embeds.1': 2,
    'backbone.pos_embeds.2': 3,
    'backbone.pos_embeds.3': 12,
    'backbone.norm0.': 13,
    'backbone.norm1.': 13,
    'backbone.norm2.': 13,
    'backbone.norm3.': 13,
    'head.': 13,
}
STAGES = {
    'backbone.downsample_layers.': 0,
    'backbone.stages.0.': 1,
    'backbone.stages.1.': 2,
    'backbone.stages.2.': 3,
    'backbone.stages.3.': 4,
    'backbone.pos_embeds.0': 1,
    'backbone.pos_embeds.1': 2,
    'backbone.pos_embeds.2': 3,
    'backbone.pos_embeds.3': 4,
}
REST = ('backbone.norm0.', 'backbone.norm1.', 'backbone.norm2.', 'backbone.norm3.', 'head.')
STAGES_T = {**STAGES, **dict.fromkeys(REST, 7)}
STAGES_B = {**STAGES, **dict.fromkeys(REST, 13)}


def expected_id(name, ids):
    matches = [id_ for prefix, id_ in ids.items() if name.startswith(prefix)]
    assert len(matches) == 1, f'{name}: {matches}'
    return matches[0]


def no_decay_by_name(name):
    """Written from PeLK's names, not from shapes or module types."""
    norm_weight = re.search(r'(norm\d*|bn|downsample_layers\.0\.1|downsample_layers\.[123]\.0)\.weight$', name)
    return bool(norm_weight) or name.endswith(('.bias', '.gamma')) or '.pos_embeds.' in name


def check_whole_table(model, ids, rate, decay_type):
    found = table(build(model, decay_rate=rate, decay_type=decay_type))
    assert set(found) == {name for name, _ in model.named_parameters()}
    last = max(ids.values())
    for name, (lr, decay) in found.items():
        assert lr == pytest.approx(BASE_LR * rate ** (last - expected_id(name, ids)), rel=1e-12), name
        assert decay == (0 if no_decay_by_name(name) else BASE_WD), name


PAPER_RECIPES = [
    ('tiny', LAYERS_T, 0.7, 'layer_wise'),
    ('tiny', STAGES_T, 0.9, 'stage_wise'),
    ('base', LAYERS_B, 0.8, 'layer_wise'),
    ('base', STAGES_B, 0.9, 'stage_wise'),
]


@pytest.fixture(scope='module')
def pelk():
    """Classifiers over PeLK of the published depths, narrow to build fast: the rules do not ask for widths."""
    from pelk_mm.models import PeLK

    def make(arch):
        return Classifier(PeLK(arch, width_factor=0.1, out_indices=(0, 1, 2, 3), gap_before_final_norm=False))

    return functools.cache(make)


@pytest.mark.parametrize(('arch', 'ids', 'rate', 'decay_type'), PAPER_RECIPES)
def test_whole_table_of_pelk(pelk, arch, ids, rate, decay_type):
    model = pelk(arch)
    names = [name for name, _ in model.named_parameters()]
    for prefix in ids:
        assert any(name.startswith(prefix) for name in names), f'{prefix} names no parameter: the table has gone stale'
    check_whole_table(model, ids, rate, decay_type)


@pytest.fixture
def convnext():
    """mmpretrain's ConvNeXt of the published depths, narrow."""
    models = pytest.importorskip('mmpretrain.models', reason='mmpretrain is not installed')

    def make(arch):
        depths = {'tiny': [3, 3, 9, 3], 'base': [3, 3, 27, 3]}[arch]
        narrow = {'depths': depths, 'channels': [8, 16, 32, 64]}
        return Classifier(models.ConvNeXt(narrow, out_indices=(0, 1, 2, 3), gap_before_final_norm=False))

    return make


def mmseg_table(model, rate, decay_type, num_layers):
    module = pytest.importorskip(
        'mmseg.engine.optimizers.layer_decay_optimizer_constructor', reason='mmseg is not installed'
    )
    constructor = module.LearningRateDecayOptimizerConstructor(
        {'optimizer': {'type': 'AdamW', 'lr': BASE_LR, 'weight_decay': BASE_WD}},
        {'decay_rate': rate, 'decay_type': decay_type, 'num_layers': num_layers},
    )
    return table(constructor(model).optimizer)


@pytest.mark.parametrize(('arch', 'ids', 'rate', 'decay_type'), PAPER_RECIPES)
def test_same_table_as_mmseg_gives_convnext(convnext, arch, ids, rate, decay_type):
    """mmseg's own constructor on mmpretrain's ConvNeXt of the same depths is the published rule."""
    model = convnext(arch)
    check_whole_table(model, ids, rate, decay_type)
    reference = mmseg_table(model, rate, decay_type, num_layers=max(ids.values()) - 1)
    ours = table(build(model, decay_rate=rate, decay_type=decay_type))
    assert ours == {name: pytest.approx(value) for name, value in reference.items()}


@pytest.mark.parametrize(
    ('arch', 'num_layers', 'decay_type'),
    [('tiny', 12, 'layer_wise'), ('tiny', 12, 'stage_wise'), ('base', 14, 'layer_wise'), ('base', 6, 'stage_wise')],
)
def test_num_layers_override_is_mmseg_num_layers(convnext, arch, num_layers, decay_type):
    model = convnext(arch)
    ours = table(build(model, decay_rate=0.9, decay_type=decay_type, num_layers=num_layers))
    reference = mmseg_table(model, 0.9, decay_type, num_layers)
    assert ours == {name: pytest.approx(value) for name, value in reference.items()}


def test_num_layers_that_mmseg_lets_through_is_refused(convnext):
    """N = 6 with 27 blocks: mmseg trains the end of stage 2 above the base learning rate without a word."""
    model = convnext('base')
    lr, _ = mmseg_table(model, 0.9, 'layer_wise', num_layers=6)['backbone.stages.2.26.depthwise_conv.weight']
    assert lr == pytest.approx(1.52 * BASE_LR, rel=0.01)
    with pytest.raises(
        ValueError, match=r'num_layers=6 gives parameter backbone\.stages\.2\.15\.\S+ \(id 8\) .* 1\.111'
    ):
        build(model, decay_rate=0.9, num_layers=6)
