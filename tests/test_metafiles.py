"""The model index says of every published config what is true of it."""

import math
from collections import Counter
from pathlib import Path

import pytest
from mmengine.fileio import load

ROOT = Path(__file__).resolve().parents[1]
METAFILES = load(ROOT / 'model-index.yml')['Import']
MODELS = {model['Name']: model for path in METAFILES for model in load(ROOT / path)['Models']}
TASKS = {
    'pelk': ['Image Classification'],
    'upernet': ['Semantic Segmentation'],
    'cascade': ['Object Detection', 'Instance Segmentation'],
}
SHAPES = {'pelk': (224, 224), 'upernet': (512, 2048), 'cascade': (800, 1280)}


def kind(model):
    return Path(model['Config']).stem.split('_')[0]


def test_index_names_every_metafile():
    assert sorted(METAFILES) == sorted(f'configs/{path.name}' for path in (ROOT / 'configs').glob('*metafile.yml'))


def test_every_published_config_has_one_entry():
    configs = [model['Config'] for path in METAFILES for model in load(ROOT / path)['Models']]
    assert Counter(configs) == Counter(f'configs/{path.name}' for path in (ROOT / 'configs').glob('*.py'))


def test_names_are_unique_and_lower_case():
    names = [model['Name'] for path in METAFILES for model in load(ROOT / path)['Models']]
    assert len(set(names)) == len(names)
    assert [name for name in names if name != name.lower()] == []  # mmpretrain's hub stores them lower-cased
    assert [name for name in names if 'pelk' not in name] == []


def test_toolboxes_read_the_index_without_complaint():
    modelindex = pytest.importorskip('modelindex.load_model_index', reason='comes with mmpretrain')
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    assert index.check(silent=True) == []
    assert sorted(model.name for model in index.models) == sorted(MODELS)
    for model in index.models:
        assert model.full_model.paper['URL'] == 'https://arxiv.org/abs/2403.07589'


@pytest.mark.parametrize('name', MODELS)
def test_entry(name):
    model = MODELS[name]
    assert [result['Task'] for result in model['Results']] == TASKS[kind(model)]
    # Users take both for ours, and nothing has been trained.
    assert 'Weights' not in model
    assert all(result['Metrics'] == {} for result in model['Results'])
    for key in ('FLOPs', 'Parameters', 'Dense Parameters'):
        assert type(model['Metadata'][key]) is int
    height, width = SHAPES[kind(model)] if '384' not in name else (384, 384)
    assert model['Metadata']['Input Size'] == f'{height}x{width}'


def left_by_the_convention(model):
    """Section 5 of the paper's account: 0.6 of the backbone's and the classifier's weights; no h, no 5x5 branch."""
    total = 0
    for name, parameter in model.named_parameters():
        if 'pos_embeds' in name or 'small_' in name:
            continue
        masked = parameter.dim() > 1 and name.startswith(('backbone.', 'head.fc.'))
        total += parameter.numel() * (0.6 if masked else 1)
    return total


@pytest.mark.parametrize('name', MODELS)
def test_parameters(name):
    pytest.importorskip({'pelk': 'mmpretrain', 'upernet': 'mmseg', 'cascade': 'mmdet'}[kind(MODELS[name])])
    from pelk_mm.engine.config import load_config
    from pelk_mm.engine.count_config import build_counted

    model = build_counted(load_config(ROOT / MODELS[name]['Config']))
    metadata = MODELS[name]['Metadata']
    assert metadata['Dense Parameters'] == sum(parameter.numel() for parameter in model.parameters())
    assert math.isclose(metadata['Parameters'], left_by_the_convention(model), abs_tol=100)


@pytest.mark.parametrize('name', [name for name in MODELS if 'tiny' in name])
def test_counting_agrees(name):
    pytest.importorskip({'pelk': 'mmpretrain', 'upernet': 'mmseg', 'cascade': 'mmdet'}[kind(MODELS[name])])
    from pelk_mm.engine.config import load_config
    from pelk_mm.engine.count_config import count_config

    metadata = MODELS[name]['Metadata']
    counted = count_config(load_config(ROOT / MODELS[name]['Config']), SHAPES[kind(MODELS[name])], metadata['Sparsity'])
    assert (counted.params_nonzero, counted.macs) == (metadata['Parameters'], metadata['FLOPs'])
