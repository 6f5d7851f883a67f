"""Which methods the installed toolboxes have, which of their configs are tried, and what is taken out of those."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...utils.errors import ConfigError, first_names

TOOLBOXES = ('mmdet', 'mmseg', 'mmpretrain')
#: Configs of a method that are tried until the original backbone of one passes.
MOST_CONFIGS = 3
_RESNET_50 = re.compile(r'r50|resnet50')
#: Weights from files or the network, by the arguments that name them.
_WEIGHTS = ('init_cfg', 'pretrained', 'teacher_ckpt')


@dataclass(frozen=True)
class Method:
    """A folder of configs.

    Attributes:
        toolbox: Module that ships it.
        name: Of the folder.
        configs: Those that may be tried, the first one first.
    """

    toolbox: str
    name: str
    configs: tuple[Path, ...]

    def __str__(self) -> str:
        return f'{self.toolbox} {self.name}'


def installed_toolboxes() -> list[str]:
    """Those of :data:`TOOLBOXES` that are there; nothing is imported."""
    return [name for name in TOOLBOXES if importlib.util.find_spec(name) is not None]


def import_toolbox(name: str) -> Any:
    """Import a toolbox and its models, so that processes forked later need not.

    Raises:
        ConfigError: It is none of :data:`TOOLBOXES`, or does not import; for mmdet, mmcv has no operators.
    """
    if name not in TOOLBOXES:
        raise ConfigError(f'toolbox must be one of {", ".join(TOOLBOXES)}, but got {name!r}')
    try:
        importlib.import_module(f'{name}.models')
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f'toolbox {name} cannot be imported: {error}') from error


def find_methods(toolboxes: Sequence[str], names: Sequence[str] | None = None) -> list[Method]:
    """The methods of some toolboxes, in the order of their names.

    Args:
        toolboxes: Installed ones.
        names: Those wanted; a name counts in every toolbox that has it. None for all.

    Raises:
        ConfigError: No toolbox has a method of that name; the message lists near ones.
    """
    methods = [method for toolbox in toolboxes for method in _methods_of(toolbox)]
    if names is None:
        return methods
    known = sorted({method.name for method in methods})
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 5, 0.5)
            hint = f'near ones: {", ".join(near)}' if near else f'there are {first_names(known, 5)}'
            raise ConfigError(f'no method {name!r} in {", ".join(toolboxes)}; {hint}')
    return [method for method in methods if method.name in names]


def configs_folder(toolbox: str) -> Path:
    """The folder from which the paths inside configs count: ``.mim`` of a toolbox.

    Raises:
        ConfigError: The toolbox is not installed.
    """
    spec = importlib.util.find_spec(toolbox)
    if spec is None or spec.origin is None:
        raise ConfigError(f'toolbox {toolbox} is not installed')
    return Path(spec.origin).parent / '.mim'


def read_config(path: Path) -> Config | None:
    """Read a config and take out what names weights; None if it defines no model.

    What fixes the size of images goes too, since the trials choose it.
    """
    cfg = Config.fromfile(str(path))
    if not isinstance(cfg.get('model'), Mapping):
        return None
    if cfg.get('data_preprocessor') is not None:  # as mmengine's Runner does
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    for node in walk(cfg.model):
        for name in _WEIGHTS:
            if name in node:
                node[name] = False if node[name] is True else None
        if 'bgr_to_rgb' in node:  # a data preprocessor
            node.pop('batch_augments', None)
    return cfg


def walk(node: Any) -> Iterator[Any]:
    """Every dict inside a config, outer ones first."""
    if isinstance(node, Mapping):
        yield node
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ()
    for child in children:
        yield from walk(child)


def _methods_of(toolbox: str) -> Iterator[Method]:
    for folder in sorted((configs_folder(toolbox) / 'configs').iterdir()):
        if folder.is_dir() and folder.name != '_base_':
            files = [file for file in folder.glob('*.py') if not file.name.startswith('_')]
            files = [file for file in files if not file.stem.endswith('_tta')]
            yield Method(toolbox, folder.name, tuple(sorted(files, key=lambda file: _rank(file, folder.name))))


def _rank(file: Path, method: str) -> tuple[bool, bool, bool, int, str]:
    """The method itself before others it is combined with, one that trains before one that does not, then ResNet-50."""
    name = file.stem.replace('-', '_')
    other = not name.startswith(method.replace('-', '_'))
    return 'headless' in name, other, _RESNET_50.search(name) is None, len(name), name
