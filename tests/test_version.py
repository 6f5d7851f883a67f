import importlib.util
import sys
import types
import warnings
from importlib import metadata
from pathlib import Path

import children
import pytest

from pelk_mm import version as version_module
from pelk_mm.version import (
    FIRST_TORCH,
    TESTED,
    installed_version,
    release,
    require_mmengine,
    require_torch,
    warn_untested_versions,
)

ROOT = Path(__file__).parents[1]


def set_versions(monkeypatch, versions):
    """Makes exactly `versions` (import name -> version) look installed, each under its last distribution name."""
    distributions = {version_module.DISTRIBUTIONS[name][-1]: version for name, version in versions.items()}

    def find(distribution):
        if distribution not in distributions:
            raise metadata.PackageNotFoundError(distribution)
        return distributions[distribution]

    for name in TESTED:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(metadata, 'version', find)


@pytest.mark.parametrize(
    ('version', 'numbers'),
    [
        ('2.11.0', (2, 11, 0)),
        ('2.11.0+cu130', (2, 11, 0)),
        ('2.12.0a0+git1', (2, 12, 0)),
        ('0.10rc1', (0, 10)),
        ('x', ()),
    ],
)
def test_release(version, numbers):
    assert release(version) == numbers


def test_every_tested_package_has_distributions_and_an_ordered_range():
    assert set(TESTED) == set(version_module.DISTRIBUTIONS)
    assert all(release(first) < release(end) for first, end in TESTED.values())


def test_one_warning_names_every_package_outside_its_range(monkeypatch):
    set_versions(monkeypatch, {'torch': '2.0.1', 'mmcv': '2.4.0', 'mmdet': '3.3.0'})
    with pytest.warns(UserWarning, match='not tested with') as caught:
        warn_untested_versions()
    assert len(caught) == 1
    message = str(caught[0].message)
    assert 'torch 2.0.1 (tested: >=2.1, <2.16)' in message
    assert 'mmcv 2.4.0 (tested: >=2.1, <2.4)' in message
    assert message.endswith('try pip install "torch>=2.1,<2.16" "mmcv-lite>=2.1,<2.4"')
    assert 'mmdet' not in message


@pytest.mark.parametrize('versions', [{}, {'torch': '2.5.0', 'mmengine': '0.10.12', 'mmseg': '1.2.2'}])
def test_no_warning_inside_the_ranges_or_without_the_package(monkeypatch, versions):
    set_versions(monkeypatch, versions)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warn_untested_versions()


def test_an_imported_module_tells_its_own_version(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmseg', types.SimpleNamespace(__version__='9.9'))
    assert installed_version('mmseg') == '9.9'


def test_checking_versions_imports_nothing_heavy(monkeypatch):
    for name in ('mmcv', 'mmdet', 'mmseg', 'mmpretrain'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = set(sys.modules)
    version_module.untested_versions()
    assert not {'mmcv', 'mmdet', 'mmseg', 'mmpretrain'} & (set(sys.modules) - before)


def test_missing_mmengine_gives_the_install_command(monkeypatch):
    require_mmengine()
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'needs mmengine.*pip install onedl-mmengine'):
        require_mmengine()


@pytest.mark.parametrize('version', ['1.13.1', '2.0.1+cpu'])
def test_an_older_torch_is_refused_with_both_versions(monkeypatch, version):
    require_torch()
    monkeypatch.setitem(sys.modules, 'torch', types.SimpleNamespace(__version__=version))
    with pytest.raises(ImportError) as caught:
        require_torch()
    assert str(caught.value) == (
        f'pelk_mm needs torch {FIRST_TORCH} or newer, but found torch {version}: pip install "torch>={FIRST_TORCH}", '
        'and an mmcv that was built for it'
    )


def test_a_missing_torch_gives_the_install_command(monkeypatch):
    set_versions(monkeypatch, {})
    with pytest.raises(ImportError, match='needs torch 2.1 or newer, which is not installed: pip install torch'):
        require_torch()


@pytest.mark.processes
def test_the_package_refuses_an_older_torch_before_anything_else_fails():
    code = (
        "import sys, types; sys.modules['torch'] = types.SimpleNamespace(__version__='2.0.1')\n"
        'try:\n    import pelk_mm\nexcept ImportError as error:\n    print(error)'
    )
    done = children.run([sys.executable, '-c', code], cwd=ROOT)
    assert done.stdout.startswith('pelk_mm needs torch 2.1 or newer, but found torch 2.0.1: pip install'), done.stderr
    assert done.stdout.count('\n') == 1
