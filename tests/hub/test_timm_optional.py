"""timm is optional: what an import says where it is missing, too old or broken."""

import importlib
import sys
from types import ModuleType

import pytest

USED = (
    'build_model_with_cfg',
    'generate_default_cfgs',
    'is_model',
    'model_entrypoint',
    'register_model',
    'resolve_pretrained_cfg',
)


@pytest.fixture
def without(monkeypatch):
    """Import ``pelk_mm.hub.timm`` anew beside another ``timm``, or none."""

    def attempt(**modules):
        import pelk_mm.hub

        for name in [name for name in sys.modules if name == 'timm' or name.startswith(('timm.', 'pelk_mm.hub.timm'))]:
            monkeypatch.delitem(sys.modules, name)
        if hasattr(pelk_mm.hub, 'timm'):
            monkeypatch.delattr(pelk_mm.hub, 'timm')
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name.replace('__', '.'), module)
        importlib.import_module('pelk_mm.hub.timm')

    return attempt


def stand_in(**attributes):
    module = ModuleType('timm')
    vars(module).update(attributes)
    return module


def test_missing(without):
    with pytest.raises(ImportError, match=r'^pelk_mm.hub.timm needs timm, which is not installed: pip install "pelk_m'):
        without(timm=None)


def test_too_old(without):
    models = stand_in(**dict.fromkeys(USED))
    with pytest.raises(ImportError, match=r'^pelk_mm.hub.timm needs timm 1.0.3 or newer, but found 0.9.16: pip instal'):
        without(timm=stand_in(__version__='0.9.16', models=models), timm__models=models)


def test_one_that_does_not_import(without):
    with pytest.raises(ImportError, match=r'^pelk_mm.hub.timm needs timm, which does not import: .*timm.models'):
        without(timm=stand_in(__version__='1.0.31', __path__=[]))


@pytest.mark.parametrize('holder', ['pelk_mm.hub.timm', 'authors.unireplknet'])
def test_a_name_taken_by_another_package_registers_nothing(without, holder):
    def entrypoint():
        raise NotImplementedError

    entrypoint.__module__ = holder
    registered = []
    models = stand_in(**dict.fromkeys(USED))
    models.generate_default_cfgs = dict
    models.is_model = lambda name: name == 'unireplknet_tiny'
    models.model_entrypoint = lambda name: entrypoint
    models.register_model = registered.append
    modules = {'timm': stand_in(__version__='1.0.31', models=models), 'timm__models': models}
    if holder.startswith('pelk_mm'):  # the module is loaded again, in a notebook say
        without(**modules)
        assert 'unireplknet_tiny' in [function.__name__ for function in registered]
        return
    with pytest.raises(ValueError, match="already knows a model called 'unireplknet_tiny', from authors.unireplknet"):
        without(**modules)
    assert registered == []
