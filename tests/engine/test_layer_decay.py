import logging
import re

import pytest
import torch
from layer_decay_cases import BASE_LR, BASE_WD, Classifier, build, table
from mmengine.config import ConfigDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT
from torch import nn


class Toy(nn.Module):
    """Two stages; depths 0 to 3 of N = 2: stem, stage 0, stage 1, the norm behind it."""

    no_weight_decay_keywords = ('pos_embeds',)

    def __init__(self):
        super().__init__()
        self.downsample_layers = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)])
        self.stages = nn.ModuleList([nn.ModuleList([nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)]) for _ in range(2)])
        self.pos_embeds = nn.ParameterList([nn.Parameter(torch.zeros(4, 3, 3)) for _ in range(2)])
        self.norm1 = nn.LayerNorm(4)

    def get_layer_depth(self, param_name, prefix=''):
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix) or name.startswith('norm'):
            return 3, 4
        kind, stage = name.split('.')[:2]
        return (int(stage) * 2 if kind == 'downsample_layers' else int(stage) + 1), 4


def test_toy_layer_wise():
    found = table(build(Classifier(Toy()), decay_rate=0.5))
    scales = {name: lr / BASE_LR for name, (lr, _) in found.items()}
    assert scales['backbone.downsample_layers.0.weight'] == pytest.approx(0.125)
    assert scales['backbone.stages.0.0.weight'] == scales['backbone.pos_embeds.0'] == pytest.approx(0.25)
    assert scales['backbone.downsample_layers.1.weight'] == scales['backbone.stages.1.0.weight'] == pytest.approx(0.5)
    assert scales['backbone.norm1.weight'] == scales['head.weight'] == 1
    assert {name for name, (_, decay) in found.items() if decay == BASE_WD} == {
        'backbone.downsample_layers.0.weight',
        'backbone.downsample_layers.1.weight',
        'backbone.stages.0.0.weight',
        'backbone.stages.1.0.weight',
        'head.weight',
    }
    assert {decay for _, decay in found.values()} == {0, BASE_WD}


def test_toy_stage_wise():
    found = table(build(Classifier(Toy()), decay_rate=0.5, decay_type='stage_wise'))
    assert found['backbone.downsample_layers.1.weight'][0] == pytest.approx(BASE_LR * 0.125)
    assert found['backbone.pos_embeds.1'] == (pytest.approx(BASE_LR * 0.5), 0)
    assert found['backbone.norm1.weight'][0] == found['head.bias'][0] == BASE_LR


def test_rate_one_changes_no_learning_rate():
    assert {lr for lr, _ in table(build(Classifier(Toy()), decay_rate=1)).values()} == {BASE_LR}


@pytest.mark.parametrize('decay_type', ['layer_wise', 'stage_wise'])
def test_backbone_alone_and_wrapped_models(decay_type):
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    options = {'decay_rate': 0.5, 'decay_type': decay_type}
    whole = table(build(Classifier(Toy()), **options))
    alone = table(build(Toy(), **options))
    assert {f'backbone.{name}': value for name, value in alone.items()} == {
        name: value for name, value in whole.items() if not name.startswith('head')
    }
    assert table(build(Wrapper(Classifier(Toy())), **options)) == whole
    inside = table(build(Classifier(Wrapper(Toy())), **options))
    assert {name.replace('.module', ''): value for name, value in inside.items()} == whole


def test_frozen_left_out_and_shared_counted_once():
    model = Classifier(Toy())
    model.backbone.downsample_layers[0].requires_grad_(False)
    model.tied = nn.Linear(4, 2, bias=False)
    model.tied.weight = model.head.weight
    found = table(build(model, decay_rate=0.5))
    trainable = {name for name, param in model.named_parameters() if param.requires_grad}
    assert set(found) == trainable
    assert 'tied.weight' not in found
    assert 'backbone.downsample_layers.0.weight' not in found


def test_nothing_trainable():
    with pytest.raises(ValueError, match='Classifier has no trainable parameter'):
        build(Classifier(Toy()).requires_grad_(False), decay_rate=0.5)


def test_custom_keys():
    keys = {
        'backbone.stages': {'lr_mult': 10.0},
        'backbone.stages.1': {'decay_mult': 0.5},
        'head': {'lr_mult': 2.0, 'decay_mult': 3.0},
    }
    plain = table(build(Classifier(Toy()), decay_rate=0.5))
    found = table(build(Classifier(Toy()), decay_rate=0.5, custom_keys=keys))
    lr, decay = found['backbone.stages.0.0.weight']
    assert (lr, decay) == (pytest.approx(10 * plain['backbone.stages.0.0.weight'][0]), BASE_WD)
    assert found['backbone.stages.0.1.weight'][1] == 0, 'an lr_mult alone leaves the weight decay of norms at 0'
    longest = found['backbone.stages.1.0.weight']
    assert longest == (plain['backbone.stages.1.0.weight'][0], pytest.approx(BASE_WD / 2))
    assert found['backbone.stages.1.1.bias'][1] == pytest.approx(BASE_WD / 2), 'decay_mult replaces the rules'
    assert found['head.bias'] == (pytest.approx(BASE_LR * 2), pytest.approx(BASE_WD * 3))
    assert found['backbone.norm1.weight'] == plain['backbone.norm1.weight']


def test_decay_mults():
    model = Classifier(Toy())
    model.scale = nn.Parameter(torch.ones(()))
    mults = {'norm_decay_mult': 0.1, 'bias_decay_mult': 0.2, 'flat_decay_mult': 0.3}
    found = table(build(model, decay_rate=0.5, **mults))
    assert found['backbone.norm1.weight'][1] == found['backbone.norm1.bias'][1] == pytest.approx(0.1 * BASE_WD)
    assert found['backbone.stages.0.1.bias'][1] == pytest.approx(0.1 * BASE_WD)
    assert found['head.bias'][1] == pytest.approx(0.2 * BASE_WD)
    assert found['scale'][1] == pytest.approx(0.3 * BASE_WD)
    assert found['backbone.pos_embeds.0'][1] == 0


def test_unmatched_custom_key_warns(monkeypatch):
    logged = []
    monkeypatch.setattr(
        'pelk_mm.engine.layer_decay.print_log',
        lambda msg, logger=None, level=logging.INFO: logged.append((level, msg)),
    )
    keys = {'.absolute_pos_embed': {'decay_mult': 0.0}, 'backbone': {}, 'backbone.stages': {}}
    build(Classifier(Toy()), decay_rate=0.5, custom_keys=keys)
    warnings = [msg for level, msg in logged if level == logging.WARNING]
    assert len(warnings) == 1
    assert "custom_keys ['.absolute_pos_embed'] match no parameter of Classifier" in warnings[0]
    tables = [msg for level, msg in logged if level == logging.INFO]
    assert len(tables) == 1, 'the table is logged once'
    assert re.search(r'^layer_0_decay\[backbone\] +0\.12500 +1\.250e-04 +0\.05 +1 +12$', tables[0], re.M)


def test_num_layers_override_follows_mmseg():
    """mmseg with N = 4 on ids 0, 1 and N, N + 1."""
    found = table(build(Classifier(Toy()), decay_rate=0.5, num_layers=4))
    assert found['backbone.stages.0.0.weight'][0] == pytest.approx(BASE_LR * 0.5**4)
    assert found['backbone.stages.1.0.weight'][0] == pytest.approx(BASE_LR * 0.5)
    assert found['head.weight'][0] == BASE_LR
    found = table(build(Classifier(Toy()), decay_rate=0.5, num_layers=4, decay_type='stage_wise'))
    assert found['backbone.stages.1.0.weight'][0] == pytest.approx(BASE_LR * 0.5**3)
    assert found['head.weight'][0] == BASE_LR


def test_scale_above_one_refused():
    class Deep(Toy):
        def get_layer_depth(self, param_name, prefix=''):
            depth, _ = super().get_layer_depth(param_name, prefix)
            return depth + 10 * (depth > 1), 16  # N = 14

    assert build(Classifier(Deep()), decay_rate=0.5)
    with pytest.raises(ValueError, match=r'num_layers=6 gives parameter backbone\.\S+ \(id 12\) .* 32, above 1: raise'):
        build(Classifier(Deep()), decay_rate=0.5, num_layers=6)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, r'decay_rate must be a number in \(0, 1\], got None'),
        ({'decay_rate': 0}, r'decay_rate must be .* got 0'),
        ({'decay_rate': 1.01}, r'decay_rate must be .* got 1\.01'),
        ({'decay_rate': float('nan')}, r'decay_rate must be .* got nan'),
        ({'decay_rate': '0.9'}, r"decay_rate must be .* got '0\.9'"),
        ({'decay_rate': True}, r'decay_rate must be .* got True'),
        ({'decay_rate': 0.9, 'decay_type': 'blockwise'}, r"one of \('layer_wise', 'stage_wise'\), got 'blockwise'"),
        ({'decay_rate': 0.9, 'num_layers': 0}, r'num_layers must be a positive int, got 0'),
        ({'decay_rate': 0.9, 'num_layers': 6.0}, r'num_layers must be a positive int, got 6\.0'),
        ({'layer_decay_rate': 0.9}, r"unknown keys \['layer_decay_rate'\]; known are \['decay_rate'"),
        ({'decay_rate': 0.9, 'dwconv_decay_mult': 0.0}, r"unknown keys \['dwconv_decay_mult'\]"),
        ({'decay_rate': 0.9, 'norm_decay_mult': -1}, r'norm_decay_mult must be a non-negative number, got -1'),
        ({'decay_rate': 0.9, 'custom_keys': {'a': {'eps': 1}}}, r"custom_keys\['a'\] .* \('lr_mult', 'decay_mult'\)"),
        ({'decay_rate': 0.9, 'custom_keys': {'a': 0.1}}, r"custom_keys\['a'\] must be a dict"),
        ({'decay_rate': 0.9, 'custom_keys': {'a': {'lr_mult': None}}}, r"'a'\]: lr_mult must be .* got None"),
        ({'decay_rate': 0.9, 'lr': None}, r'layer decay needs optimizer\.lr'),
        ({'decay_rate': 0.9, 'weight_decay': None}, r'layer decay needs optimizer\.weight_decay'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(Classifier(Toy()), **options)


def test_backbone_without_depths():
    with pytest.raises(TypeError, match=r'but Linear has no get_layer_depth: add `def get_layer_depth'):
        build(Classifier(nn.Linear(2, 2)), decay_rate=0.5)
    with pytest.raises(TypeError, match='but Linear has neither a backbone nor get_layer_depth'):
        build(nn.Linear(2, 2), decay_rate=0.5)


def test_backbone_that_cannot_place_a_parameter():
    class Blocks(Toy):
        def get_layer_depth(self, param_name, prefix=''):
            return int('blocks'), 4

    class TooDeep(Toy):
        def get_layer_depth(self, param_name, prefix=''):
            return 4, 4

    with pytest.raises(ValueError, match=r'Blocks\.get_layer_depth cannot place parameter backbone\.\S+: invalid lit'):
        build(Classifier(Blocks()), decay_rate=0.5)
    with pytest.raises(ValueError, match=r'TooDeep\.get_layer_depth gives backbone\.\S+ depth 4, not one of 0 to 3'):
        build(Classifier(TooDeep()), decay_rate=0.5)


def test_stage_wise_needs_stage_names():
    class Renamed(Toy):
        def __init__(self):
            super().__init__()
            self.layers = self.stages
            del self.stages

    assert build(Classifier(Renamed()), decay_rate=0.5)
    with pytest.raises(ValueError, match=r'cannot place parameter backbone\.layers\.0\.0\.weight of Renamed'):
        build(Classifier(Renamed()), decay_rate=0.5, decay_type='stage_wise')


def test_keywords_must_be_a_tuple_of_str():
    class Bare(Toy):
        no_weight_decay_keywords = 'pos_embeds'

    with pytest.raises(TypeError, match=r"Bare\.no_weight_decay_keywords must be a tuple of str, got 'pos_embeds'"):
        build(Classifier(Bare()), decay_rate=0.5)


@pytest.mark.parametrize('name', ['LayerDecayOptimWrapperConstructor', 'pelk_mm.LayerDecayOptimWrapperConstructor'])
def test_built_from_config(name):
    cfg = ConfigDict(
        type=name,
        optim_wrapper_cfg={'optimizer': {'type': 'SGD', 'lr': BASE_LR, 'weight_decay': BASE_WD}},
        paramwise_cfg={'decay_rate': 0.5, 'custom_keys': {'head': {'lr_mult': 2}}},
    )
    wrapper = ROOT.build(cfg)(Classifier(Toy()))
    assert table(wrapper.optimizer)['head.weight'] == (BASE_LR * 2, BASE_WD)
    state = wrapper.optimizer.state_dict()
    wrapper.optimizer.load_state_dict(state)
