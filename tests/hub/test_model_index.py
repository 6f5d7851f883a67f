"""Our classifiers by name in mmpretrain, from a checkout; tests/test_packaging.py does it from an installed wheel."""

import sys

import pytest
import torch

import pelk_mm
from pelk_mm.hub import model_index

SMALL = {'backbone': {'arch': 'atto'}, 'head': {'in_channels': 416}}
FAMILIES = (
    *('pelk-', 'sw-', 'slak-', 'unireplknet-', 'inceptionnext-'),
    *('wtconvnext-', 'wbmm-', 'overlock-', 'uniconvnet-'),
)


@pytest.fixture
def mmpretrain(monkeypatch):
    mmpretrain = pytest.importorskip('mmpretrain')
    from mmpretrain.apis import ModelHub

    monkeypatch.setattr(ModelHub, '_models_dict', dict(ModelHub._models_dict))
    for name in [name for name in ModelHub._models_dict if name.startswith(FAMILIES)]:
        del ModelHub._models_dict[name]
    return mmpretrain


def test_names_are_listed_once_and_only_those_that_the_hub_can_build(mmpretrain):
    before = set(mmpretrain.list_models())
    names = pelk_mm.register_model_index()
    assert {f'{family}tiny_in1k' for family in FAMILIES} <= set(names)
    assert names == pelk_mm.register_model_index() == sorted(set(mmpretrain.list_models()) - before)
    assert all(name.startswith(FAMILIES) for name in names)
    assert not [name for name in names if 'ade20k' in name or 'coco' in name]
    assert set(names) <= set(mmpretrain.list_models(task='Image Classification'))
    arches = {name: mmpretrain.apis.ModelHub.get(name).config.model.backbone.arch for name in names}
    assert all(arch in name for name, arch in arches.items())


def test_models_are_built_untrained_or_with_weights_of_the_user(mmpretrain, tmp_path):
    pelk_mm.register_model_index()
    small = mmpretrain.get_model('PeLK-Tiny_in1k', **SMALL)
    assert type(small.backbone).__name__ == 'PeLK'
    with torch.no_grad():
        assert small(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)

    torch.nn.init.constant_(small.head.fc.bias, 0.5)
    torch.save({'state_dict': small.state_dict(), 'meta': {}}, tmp_path / 'mine.pth')
    loaded = mmpretrain.get_model('pelk-tiny_in1k', pretrained=str(tmp_path / 'mine.pth'), **SMALL)
    assert torch.equal(loaded.head.fc.bias, small.head.fc.bias)
    with pytest.warns(UserWarning, match='Unable to find pre-defined checkpoint'):  # none is published
        mmpretrain.get_model('pelk-tiny_in1k', pretrained=True, **SMALL)


def test_a_name_taken_by_another_package_registers_nothing(mmpretrain):
    from mmpretrain.apis import ModelHub

    ModelHub._models_dict['pelk-base_in1k'] = object()
    with pytest.raises(
        ValueError, match=r"already knows a model called 'pelk-base_in1k', which is not from .*index.yml"
    ):
        pelk_mm.register_model_index()
    assert not ModelHub.has('pelk-tiny_in1k')


def test_without_mmpretrain(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmpretrain', None)
    with pytest.raises(ImportError, match='needs mmpretrain, which is not installed: pip install onedl-mmpretrain'):
        pelk_mm.register_model_index()


def test_mmpretrain_that_does_not_import(monkeypatch, tmp_path):
    (tmp_path / 'mmpretrain').mkdir()
    (tmp_path / 'mmpretrain' / '__init__.py').write_text("raise ImportError('no mmcv')")
    for name in [name for name in sys.modules if name.partition('.')[0] == 'mmpretrain']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match='needs mmpretrain, which does not import: no mmcv'):
        pelk_mm.register_model_index()


def test_index_of_the_package_comes_before_that_of_the_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(model_index, '__file__', str(tmp_path / 'pelk_mm/hub/model_index.py'))
    with pytest.raises(FileNotFoundError, match=r'no model-index.yml in .*/pelk_mm/.mim or .*: is the installation'):
        model_index.find_index_folder()
    (tmp_path / 'model-index.yml').touch()
    assert model_index.find_index_folder() == tmp_path
    (tmp_path / 'pelk_mm/.mim').mkdir(parents=True)
    (tmp_path / 'pelk_mm/.mim/model-index.yml').touch()
    assert model_index.find_index_folder() == tmp_path / 'pelk_mm/.mim'
