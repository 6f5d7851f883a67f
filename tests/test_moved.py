"""Modules by the paths they had before: one place keeps them importable for a release."""

import importlib
import os
import pickle
import sys

import pytest
from children import run

from pelk_mm.moved import PLACES, keep_old_paths


@pytest.fixture(autouse=True)
def forget():
    yield
    for old in PLACES:
        package, _, name = f'pelk_mm.{old}'.rpartition('.')
        if sys.modules.pop(f'{package}.{name}', None) is not None:
            delattr(sys.modules[package], name)


@pytest.mark.parametrize('old', PLACES)
def test_an_old_path_warns_and_gives_the_new_module(old):
    if old.endswith('triton_kernels'):
        pytest.importorskip('triton')
    with pytest.warns(DeprecationWarning, match=rf'pelk_mm\.{old} has moved: import from pelk_mm\.'):
        module = importlib.import_module(f'pelk_mm.{old}')
    for place in PLACES[old].split():
        new = importlib.import_module(f'pelk_mm.{place}')
        own = [name for name, value in vars(new).items() if getattr(value, '__module__', None) == new.__name__]
        assert all(getattr(module, name) is getattr(new, name) for name in own)
        assert new.__spec__.name == f'pelk_mm.{place}'
    assert (module is new) == (' ' not in PLACES[old])


def test_the_ways_to_import():
    with pytest.warns(DeprecationWarning, match='moved') as caught:
        from pelk_mm.engine.checkpoint import find_latest_checkpoint, read_checkpoint
    assert caught[0].filename == __file__  # the line to change
    with pytest.warns(DeprecationWarning, match='moved'):
        from pelk_mm.engine import errors
    from pelk_mm.checkpoints import loading, reading
    from pelk_mm.utils.errors import UserError

    assert (read_checkpoint, find_latest_checkpoint) == (reading.read_checkpoint, loading.find_latest_checkpoint)
    assert errors.UserError is UserError


def test_a_pickled_object_finds_its_class_by_the_old_path():
    from pelk_mm.layers import DropPath, StripeConv

    assert pickle.loads(pickle.dumps(DropPath)) is DropPath
    old = pickle.dumps(StripeConv, protocol=0).replace(b'pelk_mm.layers.mixers.stripe', b'pelk_mm.layers.stripe')
    with pytest.warns(DeprecationWarning, match='moved'):
        assert pickle.loads(old) is StripeConv


def test_unknown_modules_are_still_unknown():
    with pytest.raises(ModuleNotFoundError, match=r'pelk_mm\.engine\.nowhere'):
        importlib.import_module('pelk_mm.engine.nowhere')


def test_the_finder_is_installed_once():
    before = list(sys.meta_path)
    keep_old_paths()
    assert sys.meta_path == before


@pytest.mark.processes
def test_the_package_imports_none_of_them():
    code = 'import warnings; warnings.filterwarnings("error", ".*has moved"); import pelk_mm, sys; '
    code += 'import pkgutil, importlib\n'
    code += 'for found in pkgutil.walk_packages(pelk_mm.__path__, "pelk_mm."): importlib.import_module(found.name)'
    done = run([sys.executable, '-c', code], env={**os.environ, 'TRITON_INTERPRET': '1'})
    assert done.returncode == 0, done.stderr
