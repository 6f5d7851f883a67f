"""Imports the tested stack and prints its versions.

``tools/setup.sh`` asks its questions here too. Standard library only: it has to run where nothing is installed yet.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import re
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmcv.ops', 'mmseg', 'mmdet', 'mmpretrain')
OF_OPERATORS = ('mmcv.ops', 'mmdet')  # import on an mmcv with compiled operators only
TEST_TOOLS = ('pytest', 'xdist', 'ruff', 'mypy')


def has_operators() -> bool:
    """Tells whether the mmcv that is installed has compiled operators, without importing it."""
    spec = importlib.util.find_spec('mmcv')
    folders = spec.submodule_search_locations if spec else None
    return any(list(Path(folder).glob('_ext*')) for folder in folders or ())


def missing_packages(without_operators: bool = False) -> list[str]:
    """Returns the packages that are not there, by a look at the import path only: nothing is imported."""
    missing = [n for n in (*PACKAGES, *TEST_TOOLS) if '.' not in n and importlib.util.find_spec(n) is None]
    if 'mmcv' not in missing and not without_operators and not has_operators():
        missing.append('mmcv.ops')
    return missing


def installed_from(root: str) -> bool:
    """Tells whether pelk_mm is installed from the checkout `root` as an editable package of its present version."""
    spec = importlib.util.find_spec('pelk_mm')
    if spec is None or spec.origin is None or not os.path.samefile(Path(spec.origin).parent.parent, root):
        return False
    try:
        version = metadata.version('pelk_mm')
    except metadata.PackageNotFoundError:
        return False
    return f"__version__ = '{version}'" in Path(root, 'pelk_mm', 'version.py').read_text()


def operators_target() -> str:
    """Returns what mmcv's operators can be built for: ``'cuda13.0-sm90'``, ``'rocm...'`` or ``'cpu'``.

    CUDA operators need a GPU (or ``FORCE_CUDA=1``) and a toolkit of torch's own major version: a toolkit that does not
    fit would end the build after minutes, and a machine without one can still use the CPU operators.
    """
    import torch

    if torch.version.hip:
        return f'rocm{torch.version.hip}'
    if torch.version.cuda is None or not (torch.cuda.is_available() or os.environ.get('FORCE_CUDA') == '1'):
        return 'cpu'
    from torch.utils.cpp_extension import CUDA_HOME

    try:
        nvcc = subprocess.run([f'{CUDA_HOME}/bin/nvcc', '--version'], capture_output=True, text=True).stdout
    except OSError:
        return 'cpu'
    release = re.search(r'release (\d+)\.', nvcc)
    if release is None or release[1] != torch.version.cuda.split('.')[0]:
        return 'cpu'
    architectures = os.environ.get('TORCH_CUDA_ARCH_LIST', '')
    if not architectures and torch.cuda.is_available():
        architectures = 'sm' + ''.join(str(number) for number in torch.cuda.get_device_capability())
    return f'cuda{torch.version.cuda}-{re.sub("[^0-9A-Za-z.+]+", "_", architectures) or "default"}'


def operators_key() -> str:
    """Returns the name of the one environment that a wheel of mmcv's operators fits: Python, torch, target, machine."""
    import torch

    python = f'cp{sys.version_info[0]}{sys.version_info[1]}'
    return f'{python}-torch{torch.__version__}-{operators_target()}-{platform.system()}_{platform.machine()}'.lower()


def describe(name: str, module: object) -> str:
    """Returns one line of the version table."""
    import torch

    version = getattr(module, '__version__', '')
    if name == 'torch':
        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'no GPU: runs on the CPU'
        version = f'{version} ({device})'
    elif name == 'mmcv.ops':
        cuda = module.get_compiling_cuda_version()  # type: ignore[attr-defined]
        version = 'built for the CPU only' if cuda == 'not available' else f'built with CUDA {cuda}'
        if cuda == 'not available' and torch.cuda.is_available():
            version += ': detectors need them on the GPU (install a CUDA toolkit and build them anew)'
    return f'  {name:<12}{version}'


def report(names: tuple[str, ...]) -> int:
    """Imports `names`, prints their versions; returns 1 and names the culprit where one does not import."""
    print(f'  {"Python":<12}{platform.python_version()} ({sys.executable})')
    for name in names:
        try:
            with warnings.catch_warnings():
                if name != 'pelk_mm':
                    warnings.simplefilter('ignore')
                module = importlib.import_module(name)
                line = describe(name, module)
        except Exception as error:  # an extension of another torch, a version assert, a missing library: any kind
            reason = ' '.join(str(error).split()) or 'no message'
            print(
                f'error: {name} does not import in {sys.executable}: {type(error).__name__}: {reason}', file=sys.stderr
            )
            return 1
        print(line, flush=True)
    return 0


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description='Imports the tested stack and prints its versions.')
    question = parser.add_mutually_exclusive_group()
    question.add_argument('--missing', action='store_true', help='name what is not installed; status 1 if anything')
    question.add_argument('--installed-from', metavar='DIR', help='status 0 if pelk_mm is an editable install of DIR')
    question.add_argument('--operators-key', action='store_true', help="name the environment of mmcv's operators")
    question.add_argument('--stack', action='store_true', help='import and print all but pelk_mm')
    question.add_argument('--only', nargs='+', metavar='NAME', help='import and print these packages')
    parser.add_argument('--without-operators', action='store_true', help="mmcv's operators may be missing")
    args = parser.parse_args()
    sys.path.pop(0)  # this folder's test.py and train.py must not stand in for packages
    if args.missing:
        missing = missing_packages(args.without_operators)
        print(', '.join(missing))
        return 1 if missing else 0
    if args.installed_from:
        return 0 if installed_from(args.installed_from) else 1
    if args.operators_key:
        print(operators_key())
        return 0
    if args.only:
        return report(tuple(args.only))
    names = PACKAGES if args.stack else (*PACKAGES, 'pelk_mm')
    if not args.without_operators or has_operators():
        return report(names)
    status = report(tuple(name for name in names if name not in OF_OPERATORS))
    print(f'  {"mmcv.ops":<12}not installed: bash tools/setup.sh adds them for detectors and the test suite')
    return status


if __name__ == '__main__':
    sys.exit(main())
