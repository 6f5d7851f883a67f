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
    'torch': ('2.1', '2.16'),
    'mmengine': ('0.10', '0.11'),
    'mmcv': ('2.1', '2.4'),
    'mmseg': ('1.2', '1.5'),
    'mmdet': ('3.3', '3.6'),
    'mmpretrain': ('1.2', '1.4'),
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


def _distribution(name: str) -> str | None:
    for distribution in DISTRIBUTIONS[name]:
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
        return distribution
    return None


def installed_version(name: str) -> str | None:
    """Returns the version of an import name of ``TESTED`` without importing it, or None where it is not installed."""
    version = getattr(sys.modules.get(name), '__version__', None)
    if version is not None:
        return str(version)
    distribution = _distribution(name)
    return None if distribution is None else metadata.version(distribution)


def untested_versions() -> dict[str, str]:
    """Returns, for each installed package outside its tested range, a phrase with version and range, and a remedy.

    The remedy is what ``pip install`` takes to come within the range.
    """
    remedies = {}
    for name, (first, end) in TESTED.items():
        version = installed_version(name)
        if version is not None and not release(first) <= release(version) < release(end):
            remedies[f'{name} {version} (tested: >={first}, <{end})'] = (
                f'"{_distribution(name) or name}>={first},<{end}"'
            )
    return remedies


def warn_untested_versions() -> None:
    """Gives one ``UserWarning`` that names every installed package outside its tested range, none if there is none."""
    remedies = untested_versions()
    if remedies:
        warnings.warn(
            f'pelk_mm {__version__} was not tested with {", ".join(remedies)}. If something fails, try '
            f'pip install {" ".join(remedies.values())}',
            UserWarning,
            stacklevel=2,
        )


def require_torch() -> None:
    """Checks that torch is there and new enough, before an import fails deep inside of it.

    Raises:
        ImportError: torch is missing or older than ``FIRST_TORCH``; the message names both versions.
    """
    version = installed_version('torch')
    if version is None:
        raise ImportError(f'pelk_mm needs torch {FIRST_TORCH} or newer, which is not installed: pip install torch')
    if release(version) < release(FIRST_TORCH):
        raise ImportError(
            f'pelk_mm needs torch {FIRST_TORCH} or newer, but found torch {version}: '
            f'pip install "torch>={FIRST_TORCH}", and an mmcv that was built for it'
        )


def require_mmengine() -> None:
    """Checks that mmengine can be imported, without naming a distribution as a dependency.

    mmengine comes as ``mmengine`` or as ``onedl-mmengine``: depending on either would install a second copy over the
    first in an environment that holds the other.

    Raises:
        ImportError: mmengine is not installed; the message holds the command that installs it.
    """
    if importlib.util.find_spec('mmengine') is None:
        raise ImportError('pelk_mm needs mmengine, which is not installed: pip install onedl-mmengine')
