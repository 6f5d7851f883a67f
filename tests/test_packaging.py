import configparser
import json
import os
import re
import shutil
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import children
import pytest
from mmengine.config import Config
from mmengine.fileio import load

from pelk_mm.version import __version__

pytestmark = [pytest.mark.slow, pytest.mark.processes]

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ('setup.py', 'setup.cfg', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'model-index.yml')
MM_PACKAGES = re.compile(r'mm(engine|cv|det|seg|pretrain)')


def run(*command, cwd, env=None):
    done = children.run(command, cwd=cwd, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments, cwd):
    """Run pip as it comes: no settings of this machine, such as a folder of wheels or a cap on versions, count."""
    env = {name: value for name, value in os.environ.items() if not name.startswith('PIP_')}
    env['PIP_CONFIG_FILE'] = os.devnull
    return run(sys.executable, '-m', 'pip', *arguments, cwd=cwd, env=env)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A clean copy of the source: a build must not write into the checkout, nor find an earlier one's leftovers."""
    folder = tmp_path_factory.mktemp('source')
    for name in ('pelk_mm', 'configs', 'tools'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
    for name in SOURCES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    """A wheel built without the network."""
    pytest.importorskip('pip')
    folder = tmp_path_factory.mktemp('wheel')
    options = ('--no-index', '--no-deps', '--no-build-isolation', '--no-cache-dir', '-w', str(folder))
    pip('wheel', *options, '.', cwd=source)
    (path,) = folder.glob('*.whl')
    return path


def files_under(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


def test_wheel_carries_what_mim_looks_for(wheel, source):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ('configs', 'tools'):
        expected = {f'pelk_mm/.mim/{folder}/{name}' for name in files_under(source / folder)}
        assert expected
        assert expected <= names
    assert 'pelk_mm/.mim/model-index.yml' in names
    assert 'pelk_mm/py.typed' in names


def test_every_path_of_the_model_index_is_in_the_wheel(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    mim = tmp_path / 'pelk_mm' / '.mim'
    metafiles = load(mim / 'model-index.yml')['Import']
    assert len(metafiles) == 7
    for path in metafiles:
        metafile = load(mim / path)
        for model in metafile['Models']:
            assert (mim / model['Config']).is_file(), model['Name']
        for collection in metafile['Collections']:  # this one is relative to the metafile, as modelindex reads it
            assert (mim / path).parent.joinpath(collection['README']).is_file()
        assert Config.fromfile(mim / metafile['Models'][0]['Config']).model.backbone.type.startswith('pelk_mm.')


FROM_THE_WHEEL = """
import sys
import pelk_mm
assert 'mmpretrain' not in sys.modules
names = pelk_mm.register_model_index()
from mmpretrain import get_model, list_models
assert set(names) <= set(list_models())
assert {'pelk-tiny_in1k', 'slak-tiny_in1k'} <= set(names)
model = get_model('pelk-tiny_in1k', backbone=dict(arch='atto'), head=dict(in_channels=416))
print(pelk_mm.__file__, model._config.filename)
"""


def test_installed_wheel_registers_its_models(wheel, tmp_path):
    pytest.importorskip('mmpretrain')
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    env = {**os.environ, 'PYTHONPATH': str(tmp_path / 'site')}
    package, config = run(sys.executable, '-c', FROM_THE_WHEEL, cwd=tmp_path, env=env).split()[-2:]
    assert package == str(tmp_path / 'site/pelk_mm/__init__.py')
    assert config == str(tmp_path / 'site/pelk_mm/.mim/configs/pelk_t_imagenet.py')


def test_wheel_carries_the_package_and_nothing_else(wheel, source):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split('/')[0] for name in names} == {'pelk_mm', f'pelk_mm-{__version__}.dist-info'}
    modules = {f'pelk_mm/{name}' for name in files_under(source / 'pelk_mm') if name.endswith('.py')}
    assert modules <= set(names)
    assert not [name for name in names if name.endswith(('.pyc', '.pyo'))]


def test_wheel_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    (path,) = [name for name in archive.namelist() if name.endswith('.dist-info/METADATA')]
    text = archive.read(path).decode()
    assert f'Version: {__version__}\n' in text
    assert 'Requires-Python: >=3.10' in text
    assert 'Apache-2.0' in text
    assert any(name.endswith('LICENSE') for name in archive.namelist())


def test_build_leaves_the_source_tree_without_mim(wheel, source):
    assert not (source / 'pelk_mm' / '.mim').exists()


def test_requirements_are_ranges_that_replace_nothing():
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    requirements = config['options']['install_requires'].split()
    assert requirements
    for requirement in requirements:
        assert not MM_PACKAGES.search(requirement), 'a second distribution over the same import name'
        assert not re.search(r'==|<|~=', requirement), 'an upper bound downgrades what is there'


@pytest.mark.parametrize('torch', ['1.13.1', '2.1.2+cu118', '2.13.0.dev20260101+cpu', '3.0.0'])
def test_installing_replaces_nothing_in_an_openmmlab_environment(source, tmp_path, torch):
    """Asks pip what it would do in an environment of upstream packages and another torch."""
    pytest.importorskip('pip')
    theirs = tmp_path / 'theirs'
    venv.create(theirs, with_pip=False, symlinks=True)
    site = next((theirs / 'lib').glob('python*/site-packages'))
    for name, version in {'torch': torch, 'mmengine': '0.10.4', 'mmcv': '2.1.0', 'mmdet': '3.3.0'}.items():
        info = site / f'{name}-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
    # The build back-end of this environment, without the packages that stand beside it.
    for path in Path(sys.modules['pip'].__file__).parents[1].glob('*setuptools*'):
        (site / path.name).symlink_to(path)
    (site / '_distutils_hack').symlink_to(Path(sys.modules['pip'].__file__).parents[1] / '_distutils_hack')
    report = tmp_path / 'report.json'
    options = ('--dry-run', '--no-index', '--no-build-isolation', '--report', str(report), '-e', str(source))
    pip('--python', str(theirs / 'bin' / 'python'), 'install', *options, cwd=tmp_path)
    changes = [item['metadata']['name'] for item in json.loads(report.read_text())['install']]
    assert changes == ['pelk_mm']


def test_requirements_txt_is_what_the_lock_holds():
    lock = dict(re.findall(r'^([\w.-]+)==(\S+)', (ROOT / 'requirements' / 'lock.txt').read_text(), re.MULTILINE))
    pins = re.findall(r'^([\w.-]+)==(\S+)', (ROOT / 'requirements.txt').read_text(), re.MULTILINE)
    assert len(pins) > 6
    for name, version in pins:
        assert lock[name] == version
    assert 'opencv-python' not in lock  # needs libGL, and shares its files with the headless build
    assert 'opencv-python-headless' in lock
    assert 'onedl-mmcv' not in lock  # built against torch, never taken from the index


@pytest.fixture(scope='module')
def built(source, tmp_path_factory):
    """What a release uploads: an sdist and a wheel."""
    pytest.importorskip('build', reason='build is not installed')
    folder = tmp_path_factory.mktemp('dist')
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder, source, cwd=folder)
    return sorted(folder.iterdir())


def test_what_a_release_uploads_is_accepted(built):
    pytest.importorskip('twine', reason='twine is not installed')
    assert [path.suffix for path in built] == ['.whl', '.gz']
    said = run(sys.executable, '-m', 'twine', 'check', '--strict', *built, cwd=built[0].parent)
    assert said.count('PASSED') == 2


EVERY_BACKBONE = """
import sys
import pelk_mm
from pelk_mm import models
kinds = [kind for kind in vars(models).values() if isinstance(kind, type) and getattr(kind, 'arch_settings', None)]
for kind in kinds:
    kind(arch=dict(depths=(1, 1, 1, 1), channels=(8, 8, 8, 8)))
names = {name.split('.')[0] for name in sys.modules}
print(len(kinds), pelk_mm.__file__, *sorted(names & {'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'timm', 'safetensors'}))
"""


def test_torch_and_mmengine_are_enough(wheel, tmp_path):
    """The wheel in an environment whose other packages are only what those two need."""
    venv.create(tmp_path / 'env', with_pip=False, symlinks=True)
    site = next((tmp_path / 'env' / 'lib').glob('python*/site-packages'))
    zipfile.ZipFile(wheel).extractall(site)
    needed = closure('torch', 'onedl-mmengine' if is_there('onedl-mmengine') else 'mmengine')
    for name in needed:
        for file in metadata.files(name) or ():
            top = site / file.parts[0]
            if file.parts[0] != '..' and not top.exists():
                top.symlink_to(metadata.distribution(name).locate_file(file.parts[0]))
    python = tmp_path / 'env' / 'bin' / 'python'
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    count, package, *others = run(python, '-c', EVERY_BACKBONE, cwd=tmp_path, env=env).split()
    assert int(count) >= 7
    assert Path(package).is_relative_to(site)
    assert others == []


def is_there(name):
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def closure(*names):
    """The distributions that these need, installed ones only, without extras."""
    found, pending = set(), list(names)
    while pending:
        name = re.sub(r'[-_.]+', '-', pending.pop()).lower()
        if name in found or not is_there(name):
            continue
        found.add(name)
        wanted = [requirement for requirement in metadata.requires(name) or () if 'extra ==' not in requirement]
        pending += [re.match(r'[\w.-]+', requirement).group() for requirement in wanted]
    headless = 'opencv-python-headless'  # in the place of opencv-python, which mmengine names
    return found | ({headless} if is_there(headless) else set())
