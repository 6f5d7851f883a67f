"""The model index says of every published config what is true of it."""

import math
from collections import Counter
from pathlib import Path

import pytest
from mmengine.fileio import load

from pelk_mm.analysis.counting.published_figures import ROWS

ROOT = Path(__file__).resolve().parents[1]
METAFILES = load(ROOT / 'model-index.yml')['Import']
MODELS = {model['Name']: model for path in METAFILES for model in load(ROOT / path)['Models']}
TASKS = {
    'imagenet': ['Image Classification'],
    'upernet': ['Semantic Segmentation'],
    'cascade': ['Object Detection', 'Instance Segmentation'],
    'mask': ['Object Detection', 'Instance Segmentation'],
}
SHAPES = {'imagenet': (224, 224), 'upernet': (512, 2048), 'cascade': (800, 1280), 'mask': (800, 1280)}
TOOLBOXES = {'imagenet': 'mmpretrain', 'upernet': 'mmseg', 'cascade': 'mmdet', 'mask': 'mmdet'}
PAPERS = {
    'pelk': '2403.07589',
    'sw': '2401.12736',
    'slak': '2207.03620',
    'unireplknet': '2311.15599',
    'inceptionnext': '2303.16900',
    'wtconvnext': '2407.05848',
    'wbmm': '2607.02097',
    'overlock': '2502.20087',
    'uniconvnet': '2508.09000',
}
FORMS = {'sw': 'merged', 'slak': 'slak', 'unireplknet': 'deployed', 'overlock': 'deployed'}


def parts(model):
    return Path(model['Config']).stem.split('_')


def kind(model):
    return parts(model)[0] if parts(model)[0] in TASKS else 'imagenet'


def family(model):
    (name,) = PAPERS.keys() & set(parts(model))
    return name


def test_index_names_every_metafile():
    assert sorted(METAFILES) == sorted(f'configs/{path.name}' for path in (ROOT / 'configs').glob('*metafile.yml'))


def test_every_published_config_has_one_entry():
    configs = [model['Config'] for path in METAFILES for model in load(ROOT / path)['Models']]
    assert Counter(configs) == Counter(f'configs/{path.name}' for path in (ROOT / 'configs').glob('*.py'))


def test_names_are_unique_and_lower_case():
    names = [model['Name'] for path in METAFILES for model in load(ROOT / path)['Models']]
    assert len(set(names)) == len(names)
    assert [name for name in names if name != name.lower()] == []  # mmpretrain's hub stores them lower-cased
    assert [name for name, model in MODELS.items() if f'{family(model)}-' not in name] == []


def test_toolboxes_read_the_index_without_complaint():
    modelindex = pytest.importorskip('modelindex.load_model_index', reason='comes with mmpretrain')
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    assert index.check(silent=True) == []
    assert sorted(model.name for model in index.models) == sorted(MODELS)
    for model in index.models:
        assert model.full_model.paper['URL'] == f'https://arxiv.org/abs/{PAPERS[family(MODELS[model.name])]}'


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
    """By PeLK's paper: 0.6 of the backbone's and the classifier's weights, neither h nor the 5x5 branch."""
    total = 0
    for name, parameter in model.named_parameters():
        if 'pos_embeds' in name or 'small_' in name:
            continue
        masked = parameter.dim() > 1 and name.startswith(('backbone.', 'head.fc.'))
        total += parameter.numel() * (0.6 if masked else 1)
    return total


@pytest.mark.parametrize('name', MODELS)
def test_parameters(name):
    pytest.importorskip(TOOLBOXES[kind(MODELS[name])])
    from pelk_mm.analysis.counting.count_config import build_counted
    from pelk_mm.engine.config import load_config

    model = build_counted(load_config(ROOT / MODELS[name]['Config']))
    metadata = MODELS[name]['Metadata']
    assert metadata['Dense Parameters'] == sum(parameter.numel() for parameter in model.parameters())
    if family(MODELS[name]) == 'pelk':
        assert metadata['Sparsity'] == 0.4
        assert math.isclose(metadata['Parameters'], left_by_the_convention(model), abs_tol=100)
    else:  # counted in this form below, or with the published rows in tests/analysis/counting/test_published_rows.py
        assert metadata['Counted'] == FORMS.get(family(MODELS[name]), 'dense')
        assert 0.5 < metadata['Parameters'] / metadata['Dense Parameters'] <= 1


COMPARED = {f'configs/{row.config}.py' for row in ROWS if row.as_configured}


@pytest.mark.parametrize('name', [name for name, model in MODELS.items() if model['Config'] not in COMPARED])
def test_counting_agrees(name):
    """Those that no published row compares."""
    pytest.importorskip(TOOLBOXES[kind(MODELS[name])])
    from pelk_mm.analysis.counting.published_rows import count_form
    from pelk_mm.engine.config import load_config

    metadata = MODELS[name]['Metadata']
    form = metadata.get('Counted', 'pelk')
    counted = count_form(load_config(ROOT / MODELS[name]['Config']), SHAPES[kind(MODELS[name])], form)
    assert (counted.params_nonzero, counted.macs) == (metadata['Parameters'], metadata['FLOPs'])
