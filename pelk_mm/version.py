"""The version of this package and the versions of its neighbours it was tested with.

Standard library only: packaging reads ``__version__`` where neither torch nor mmengine is installed.
"""

import importlib.util
import re
import sys
import warnings
from importlib import metadata

__version__ = '0.1.0'

# Import name -> (first version of the range, first version after it).
TESTED: dict[str, tuple[str, str]] = {
    'torch': ('2.1', '2.12'),
    'mmengine': ('0.10', '0.11'),
    'mmcv': ('2.1', '2.4'),
    'mmseg': ('1.2', '1.5'),
    'mmdet': ('3.2', '3.6'),
    'mmpretrain': ('1.1', '1.4'),
}

# The oldest torch for which upstream's mmcv and all toolboxes exist together.
FIRST_TORCH = '2.1'

# One import name comes from several distributions: upstream OpenMMLab's and OneDL's.
DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    'torch': ('torch',),
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
}


def release(version: str) -> tuple[int, ...]:
    """Returns the numbers of a version's release part: ``'2.11.0a0+cu130'`` gives ``(2, 11, 0)``."""
    match = re.match(r'\d+(\.\d+)*', version)
    return tuple(int(number) for number in match.group().split('.')) if match else ()


def installed_version(name: str) -> str | None:
    """Returns the version of an import name of ``TESTED`` without importing it, or None where it is not installed."""
    version = getattr(sys.modules.get(name), '__version__', None)
    if version is not None:
        return str(version)
    for distribution in DISTRIBUTIONS[name]:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def untested_versions() -> list[str]:
    """Returns one phrase for each installed package outside its tested range, with the version and the range."""
    phrases = []
    for name, (first, end) in TESTED.items():
        version = installed_version(name)
        if version is not None and not release(first) <= release(version) < release(end):
            phrases.append(f'{name} {version} (tested: >={first}, <{end})')
    return phrases


def warn_untested_versions() -> None:
    """Gives one ``UserWarning`` that names every installed package outside its tested range, none if there is none."""
    phrases = untested_versions()
    if phrases:
        warnings.warn(f'pelk_mm {__version__} was not tested with {", ".join(phrases)}.', UserWarning, stacklevel=2)


def require_torch() -> None:
    """Checks that torch is there and new enough, before an import fails deep inside of it.

    Raises:
        ImportError: torch is missing or older than ``FIRST_TORCH``; the message names both versions.
    """
    version = installed_version('torch')
    if version is None:
        raise ImportError(f'pelk_mm needs torch {FIRST_TORCH} or newer, which is not installed: pip install torch')
    if release(version) < release(FIRST_TORCH):
        raise ImportError(f'pelk_mm needs torch {FIRST_TORCH} or newer, but found torch {version}')


def require_mmengine() -> None:
    """Checks that mmengine can be imported, without naming a distribution as a dependency.

    mmengine comes as ``mmengine`` or as ``onedl-mmengine``: depending on either would install a second copy over the
    first in an environment that holds the other.

    Raises:
        ImportError: mmengine is not installed; the message holds the command that installs it.
    """
    if importlib.util.find_spec('mmengine') is None:
        raise ImportError('pelk_mm needs mmengine, which is not installed: pip install onedl-mmengine')
