"""Backbones with weights, by name: :func:`from_pretrained`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..converters.convert_weights import translate
from ..utils.errors import ConfigError
from .fetch import HUB, fetch
from .model_folder import CONFIG, SUMS, WEIGHTS, build_backbone, check_sums, fill_backbone, read_config, read_weights
from .published import find_published, near_names

_REPO = re.compile(r'(?:hf://)?([\w.-]+/[\w.-]+)(?:@([^/]+))?')


def from_pretrained(name: str | os.PathLike[str], progress: bool = False, **options: Any) -> nn.Module:
    """Build a backbone and load its weights.

    Args:
        name: A folder that ``publish_model.py`` has written; ``OWNER/REPO``, with ``@REVISION`` where one is meant, for
            such a folder on a hub; or a name of ``convert_weights.py --list``, for what its authors publish, which is
            downloaded and converted.
        progress: Show downloads on stderr.
        **options: Arguments of the backbone, in place of the stored ones: ``out_indices=(0, 1, 2, 3),
            gap_before_final_norm=False`` for feature maps. Norms of outputs that a classifier does not have start
            fresh.

    Returns:
        The backbone, in evaluation mode. A classifier's head is left out: build it with timm or mmpretrain
        (``docs/guide/weights.md``).

    Raises:
        ConfigError: Nothing has this name (near ones are listed), or what it needs is not installed.
        CheckpointError: The weights cannot be had, were altered, or do not fit the options.
    """
    name = os.fspath(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(folder, name, options)
    published = find_published(name)
    if published is not None:
        _, content = translate(published.family, fetch(published.source, progress=progress))
        return _filled(content['meta']['model'], content['state_dict'], name, options)
    match = _REPO.fullmatch(name)
    if match is None or name.startswith(('./', '../')):
        raise ConfigError(
            f'no folder, hub id OWNER/REPO or published name is called {name!r}; near: {near_names(name)}'
        )
    return _from_folder(_download_folder(match[1], match[2], progress), name, options)


def _from_folder(folder: Path, name: str, options: dict[str, Any]) -> nn.Module:
    check_sums(folder)
    return _filled(read_config(folder)['model'], read_weights(folder), name, options)


def _filled(model: Mapping[str, Any], state: Mapping[str, Tensor], name: str, options: Mapping[str, Any]) -> nn.Module:
    backbone = build_backbone(model, name, options)
    fill_backbone(backbone, state, name)
    backbone.eval()  # apart: mmpretrain's ConvNeXt returns None
    return backbone


def _download_folder(repo: str, revision: str | None, progress: bool) -> Path:
    """Fetch the files of a folder; those of one revision lie in one folder of the hub's cache."""
    place = f'{HUB}{repo}{f"@{revision}" if revision else ""}'
    files = [fetch(f'{place}/{file}', progress=progress) for file in (CONFIG, WEIGHTS, SUMS)]
    return files[0].parent
