"""A checkout with a stand-in for everything that tools/setup.sh would download or compile."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import children
import pytest

ROOT = Path(__file__).resolve().parents[2]
KEY = f'cp{sys.version_info[0]}{sys.version_info[1]}'
COMMANDS = (
    *('bash', 'env', 'cat', 'cksum', 'awk', 'sed', 'grep', 'tail', 'tr', 'df', 'dirname', 'mkdir', 'mktemp', 'rm'),
    *('mv', 'cp', 'ls', 'sleep', 'tee', 'nproc', 'getconf'),
)
PACKAGES = ('torchvision', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain', 'pytest', 'xdist', 'ruff', 'mypy', 'pip')

FAKE_TORCH = """
__version__ = '2.11.0+cu130'
class version: hip, cuda = None, '13.0'
class cuda:
    @staticmethod
    def is_available(): return False
"""
FAKE_HEADERS = """
import sysconfig
get_path = sysconfig.get_path
sysconfig.get_path = lambda name, *args, **kwargs: {folder!r} if name == 'include' else get_path(name, *args, **kwargs)
"""
FAKE_MMCV_OPS = """
import mmcv._ext
def get_compiling_cuda_version(): return 'not available'
"""
# Writes its calls to a log; what it does with `wheel` is in FAKE_BUILD.
FAKE_PIP = """
import os, pathlib, sys, time
args = sys.argv[1:]
root = pathlib.Path(os.environ['FAKE_ROOT'])
with open(root / 'calls', 'a') as log:
    log.write('pip ' + ' '.join(args) + '\\n')
site = pathlib.Path(__file__).parents[1]
if args[0] == 'config':
    sys.exit(1)
if args[0] == 'install' and '-e' in args:
    (site / 'checkout.pth').write_text(args[-1])
    info = site / 'pelk_mm-0.1.0.dist-info'
    info.mkdir(exist_ok=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\\nName: pelk_mm\\nVersion: 0.1.0\\n')
if args[0] == 'download':
    if 'FAKE_PREBUILT' not in os.environ:
        print(os.environ.get('FAKE_DOWNLOAD', 'ERROR: No matching distribution found for onedl-mmcv==2.3.6'))
        sys.exit(1)
    folder = pathlib.Path(args[args.index('-d') + 1])
    (folder / 'onedl_mmcv-2.3.6-KEY-KEY-linux_x86_64.whl').write_text(os.environ['FAKE_PREBUILT'])
if args[0] == 'wheel':
    print('  [3/78] c++ -c nms.cpp', flush=True)
    behaviour = os.environ.get('FAKE_BUILD', 'ok')
    if behaviour == 'hang':
        (root / 'building').write_text(str(os.getpid()))
        time.sleep(600)
    if behaviour != 'ok':
        print(behaviour)
        sys.exit(1)
    folder = pathlib.Path(args[args.index('-w') + 1])
    folder.mkdir(parents=True)
    (folder / 'onedl_mmcv-2.3.6-KEY-KEY-linux_x86_64.whl').write_text(os.environ.get('FAKE_WHEEL', ''))
""".replace('KEY', KEY)
# Installing mmcv's wheel copies its text into mmcv/_ext.py; installing mmcv without operators removes that.
FAKE_UV = """
import os, pathlib, sys
args = sys.argv[1:]
root = pathlib.Path(os.environ['FAKE_ROOT'])
if args == ['--version']:
    print('uv 0.9.5')
    sys.exit()
with open(root / 'calls', 'a') as log:
    log.write('uv ' + ' '.join(args) + '\\n')
if '-r' in args and 'FAKE_UV_ERROR' in os.environ:
    print(os.environ['FAKE_UV_ERROR'], file=sys.stderr)
    sys.exit(2)
extension = pathlib.Path(__file__).parent / 'mmcv' / '_ext.py'
if args[-1].endswith('.whl'):
    if 'FAKE_WHEEL_ERROR' in os.environ:
        print(os.environ['FAKE_WHEEL_ERROR'], file=sys.stderr)
        sys.exit(2)
    extension.write_text(pathlib.Path(args[-1]).read_text())
if args[-1].startswith('onedl-mmcv=='):
    if 'FAKE_MMCV_ERROR' in os.environ:
        print(os.environ['FAKE_MMCV_ERROR'], file=sys.stderr)
        sys.exit(2)
    extension.unlink(missing_ok=True)
"""


class Checkout:
    """A copy of what tools/setup.sh needs, in a folder whose name holds a space, with a PATH of its own."""

    tag = KEY

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / 'a checkout'
        self.bin = folder / 'bin'
        self.cache = folder / 'cache'
        self.venv = self.root / '.venv'
        self.temporary = folder / 'tmp'
        for path in (self.root / 'pelk_mm', self.bin, self.cache, self.temporary):
            path.mkdir(parents=True)
        shutil.copytree(ROOT / 'tools', self.root / 'tools', ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copytree(ROOT / 'requirements', self.root / 'requirements')
        shutil.copy(ROOT / 'pelk_mm' / 'version.py', self.root / 'pelk_mm' / 'version.py')
        (self.root / 'pelk_mm' / '__init__.py').write_text('from .version import __version__\n')
        for name in COMMANDS:
            path = shutil.which(name)
            if path:
                (self.bin / name).symlink_to(path)
        self.script('python3.11', f'exec "{sys.executable}" "$@"')
        self.script('c++', 'cat >/dev/null')
        self.env = {
            'PATH': str(self.bin),
            'HOME': str(folder),
            'TMPDIR': str(self.temporary),
            'PELK_MM_CACHE': str(self.cache),
            'UV_CACHE_DIR': str(folder / 'uv'),
            'FAKE_ROOT': str(folder),
            'PIP_CONFIG_FILE': os.devnull,
        }

    def script(self, name: str, body: str) -> None:
        """Puts a shell script into PATH."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!{shutil.which("bash")}\n{body}\n')
        path.chmod(0o755)

    @property
    def builds(self) -> int:
        """How often mmcv's operators were compiled."""
        return self.calls.count('pip wheel')

    def keep_wheel(self, torch: str = 'any') -> None:
        """Puts a wheel into the cache, so that no compiler is asked for."""
        folder = self.cache / 'wheels' / f'mmcv2.3.6-{KEY}-{torch}'
        folder.mkdir(parents=True)
        (folder / f'onedl_mmcv-2.3.6-{KEY}-{KEY}-linux_x86_64.whl').touch()

    def make_environment(self, folder: Path) -> Path:
        """Makes an environment of stand-ins for the whole stack but mmcv's operators; returns its site-packages."""
        venv.create(folder, with_pip=False, symlinks=True)
        site = next((folder / 'lib').glob('python*/site-packages'))
        for name in (
            'torchvision',
            'mmengine',
            'mmcv',
            'mmseg',
            'mmdet',
            'mmpretrain',
            'pytest',
            'xdist',
            'ruff',
            'mypy',
            'pip',
        ):
            (site / name).mkdir()
            (site / name / '__init__.py').write_text(f"__version__ = '{name}-version'\n")
        (site / 'torch').mkdir()
        (site / 'torch' / '__init__.py').write_text(FAKE_TORCH)
        (site / 'mmcv' / 'ops.py').write_text(FAKE_MMCV_OPS)
        (site / 'pip' / '__main__.py').write_text(FAKE_PIP)
        (site / 'pytest' / '__main__.py').write_text('import os, sys; print("pytest", os.getcwd(), sys.argv[1:])\n')
        (self.folder / 'Python.h').touch()
        (site / 'sitecustomize.py').write_text(FAKE_HEADERS.format(folder=str(self.folder)))
        (site / 'fake_uv.py').write_text(FAKE_UV)
        uv = folder / 'bin' / 'uv'
        uv.write_text(f'#!{shutil.which("bash")}\nexec "${{0%/*}}/python" -m fake_uv "$@"\n')
        uv.chmod(0o755)
        return site

    @property
    def calls(self) -> str:
        """What pip and uv were asked to do."""
        path = self.folder / 'calls'
        return path.read_text() if path.exists() else ''

    def setup(self, *args: str, script: str = 'tools/setup.sh', **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a script of the checkout from another folder."""
        command = ['bash', str(self.root / script), *args]
        return children.run(command, cwd=self.folder, env={**self.env, **env})

    def error(self, *args: str, **env: str) -> str:
        """Runs the set-up, which has to fail; returns its last line, the clear one."""
        done = self.setup(*args, **env)
        assert done.returncode == 1, done.stdout + done.stderr
        line = done.stderr.splitlines()[-1]
        assert line.startswith('error: '), done.stderr
        return line


@pytest.fixture
def checkout(tmp_path):
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        pytest.skip('tools/setup.sh makes environments for Python 3.10 to 3.12 only')
    return Checkout(tmp_path)


@pytest.fixture
def fake_stack(checkout):
    """A checkout whose .venv needs no download: its site-packages."""
    return checkout.make_environment(checkout.venv)
