"""Our models by name in mmpretrain's hub: ``mmpretrain.get_model('pelk-tiny_in1k')``."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.fileio import load

INDEX = 'model-index.yml'
# The hub builds classifiers alone; segmentors and detectors are for mim, which reads the whole index.
HUB_TASK = 'Image Classification'


def register_model_index() -> list[str]:
    """Make the classifiers of this package known to mmpretrain's ``get_model`` and ``list_models``.

    Works from a checkout and from an installed wheel, which carries configs and index in ``pelk_mm/.mim``. A second
    call changes nothing. There are no published weights: ``get_model(name, pretrained=FILE)`` takes your own,
    ``pretrained=True`` finds none and warns.

    Returns:
        The registered names, sorted.

    Raises:
        ImportError: mmpretrain is not installed, or does not import; the message says what to install.
        FileNotFoundError: Neither the package nor the folder above it holds the index.
        ValueError: One of the names is taken by another package; nothing has been registered then.
    """
    hub = _model_hub()
    root = find_index_folder()
    metafiles = {path: _names(path) for path in _imported(root)}
    names = sorted(name for model_names in metafiles.values() for name in model_names)
    taken = [name for name in names if hub.has(name)]
    if names and taken == names:
        return names
    if taken:
        raise ValueError(
            f'mmpretrain already knows a model called {taken[0]!r}, which is not from {root / INDEX}: '
            'call register_model_index() before what registered it'
        )
    for path, model_names in metafiles.items():
        if model_names:
            hub.register_model_index(path, config_prefix=root)
    return names


def find_index_folder() -> Path:
    """Find the folder of ``model-index.yml``, to which the paths in it are relative.

    That is ``pelk_mm/.mim`` in an installed wheel, the checkout otherwise.

    Raises:
        FileNotFoundError: Naming the places looked at.
    """
    package = Path(__file__).resolve().parents[1]
    folders = [package / '.mim', package.parent]
    for folder in folders:
        if (folder / INDEX).is_file():
            return folder
    raise FileNotFoundError(f'no {INDEX} in {" or ".join(map(str, folders))}: is the installation of pelk_mm whole?')


def _model_hub() -> Any:
    if importlib.util.find_spec('mmpretrain') is None:
        raise ImportError(
            'register_model_index() needs mmpretrain, which is not installed: pip install onedl-mmpretrain'
        )
    try:
        from mmpretrain.apis import ModelHub
    except ImportError as error:
        raise ImportError(f'register_model_index() needs mmpretrain, which does not import: {error}') from error
    return ModelHub


def _imported(root: Path) -> list[Path]:
    return [root / path for path in load(root / INDEX, file_format='yml')['Import']]


def _names(metafile: Path) -> list[str]:
    """List the models of a metafile if it is one of classifiers; metafiles do not mix tasks."""
    models: list[Mapping[str, Any]] = load(metafile, file_format='yml').get('Models') or []
    tasks = {result['Task'] for model in models for result in model['Results']}
    return [model['Name'] for model in models] if tasks == {HUB_TASK} else []
