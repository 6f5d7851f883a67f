"""Fine-tuning configs start from the checkpoint that one variable names, and say so where it names none."""

import pytest
import torch

pytest.importorskip('mmpretrain', reason='some configs are for mmpretrain')
pytest.importorskip('mmdet', reason='some configs are for mmdet')
pytest.importorskip('mmseg', reason='some configs are for mmseg')

from mmengine.registry import MODELS, DefaultScope
from small import CONFIGS, ROOT, narrow, resolved, small_config

from pelk_mm.apis.train import train
from pelk_mm.engine.config import load_config
from pelk_mm.preflight.files import note_random_start

FINE_TUNED = [
    name
    for name in CONFIGS
    if not name.startswith('demo/') and any(part in name for part in ('_ade20k', '_coco', '_imagenet_384'))
]
ONE_OF_EACH = ['upernet_pelk_t_ade20k.py', 'cascade_mask_rcnn_pelk_t_coco.py', 'pelk_b_imagenet_384.py']
SIBLINGS = [
    *(f'upernet_{net}_t_ade20k.py' for net in ('sw', 'inceptionnext', 'wtconvnext', 'wbmm', 'overlock', 'uniconvnet')),
    'mask_rcnn_overlock_t_coco.py',
]
FAMILIES = {'pelk', 'sw', 'inceptionnext', 'wtconvnext', 'wbmm', 'overlock', 'uniconvnet'}


def init_cfg(cfg):
    return (cfg.model if cfg.default_scope == 'mmpretrain' else cfg.model.backbone).get('init_cfg')


def classifier_for(name):
    """The small ImageNet classifier whose backbone is that of config ``name``, with some weights pruned."""
    (family,) = FAMILIES & set(name.split('_'))
    dense = '_dense' if family == 'wbmm' else ''
    cfg = load_config(ROOT / ('pelk_b_imagenet_384.py' if '384' in name else f'{family}_t{dense}_imagenet.py'))
    narrow(cfg.model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    for key, param in model.named_parameters():
        if key.endswith(('pointwise_conv1.weight', 'w_theta')):
            param.data[0] = 0.0
    return model


def build(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', FINE_TUNED)
def test_one_variable(name, monkeypatch):
    cfg = resolved(name)
    assert init_cfg(cfg) is None
    (note,) = note_random_start(cfg)
    assert 'PELK_MM_PRETRAINED=FILE' in note
    monkeypatch.setenv('PELK_MM_PRETRAINED', '/some/file.pth')
    cfg = load_config(ROOT / name)
    assert init_cfg(cfg).checkpoint == '/some/file.pth'
    assert note_random_start(cfg) == []


@pytest.mark.parametrize('name', sorted(set(CONFIGS) - set(FINE_TUNED)))
def test_the_others_start_from_scratch_by_design(name, monkeypatch):
    assert note_random_start(resolved(name)) == []
    monkeypatch.setenv('PELK_MM_PRETRAINED', '/some/file.pth')
    assert init_cfg(load_config(ROOT / name)) is None


def test_other_ways_to_start_need_no_note():
    init = {'type': 'Pretrained', 'checkpoint': 'x.pth', 'prefix': 'backbone.'}
    name = ROOT / 'upernet_pelk_t_ade20k.py'
    assert note_random_start(load_config(name, {f'model.backbone.init_cfg.{key}': init[key] for key in init})) == []
    assert note_random_start(load_config(name, {'load_from': 'x.pth'})) == []


@pytest.mark.parametrize('name', ONE_OF_EACH + SIBLINGS)
def test_the_checkpoint_is_loaded(name, data, tmp_path, monkeypatch):
    state = classifier_for(name).state_dict()
    torch.save({'state_dict': state}, tmp_path / 'classifier.pth')
    monkeypatch.setenv('PELK_MM_PRETRAINED', str(tmp_path / 'classifier.pth'))
    cfg = small_config(name, data(name), tmp_path)
    model = build(cfg)
    model.init_weights()
    loaded = model.state_dict()
    # The norm in front of the classifier is another one than those of the four outputs.
    expected = {
        key: value
        for key, value in state.items()
        if key.startswith('backbone.') and not key.startswith('backbone.norm') or cfg.default_scope == 'mmpretrain'
    }
    assert len(expected) > 100
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())


@pytest.mark.parametrize('given', [False, True])
def test_training_warns_or_keeps_the_zeros(given, data, tmp_path, monkeypatch, caplog):
    name = 'upernet_pelk_t_ade20k.py'
    if given:
        model = classifier_for(name)
        torch.save({'state_dict': model.state_dict()}, tmp_path / 'classifier.pth')
        monkeypatch.setenv('PELK_MM_PRETRAINED', str(tmp_path / 'classifier.pth'))
    cfg = small_config(name, data(name), tmp_path)
    cfg.train_cfg.max_iters = 1
    cfg.param_scheduler = []
    small = tmp_path / 'small.py'
    cfg.dump(small)
    runner = train(str(small), work_dir=str(tmp_path / 'work'), no_validate=True)
    log = next((tmp_path / 'work').rglob('*.log')).read_text()
    assert ('No pretrained checkpoint' in log) != given
    if given:
        weight = dict(runner.model.named_parameters())['backbone.stages.0.0.pointwise_conv1.weight']
        assert not weight[0].any()
        assert weight[1:].all()
