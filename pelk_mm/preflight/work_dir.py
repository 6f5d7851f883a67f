"""The checkpoints that an earlier run left where this one will write: refused, resumed from, or replaced."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from ..engine.config import checkpoint_folders, checkpoint_hook
from ..utils.errors import OutputError, first_names
from ..utils.removal import identify
from .walk import pretrained_files


def check_work_dir(cfg: Config, resume: bool, overwrite: bool) -> dict[Path, list[int]]:
    """See whether an earlier run has left checkpoints where this one will write.

    Checkpoints are regular files with the names that checkpoint hooks give them. Other files, links and folders in
    the same place are nobody's to remove.

    Args:
        cfg: The config; its work directory and the ``out_dir`` of its checkpoint hook are looked at.
        resume: The run goes on from an earlier one.
        overwrite: The run replaces an earlier one. Nothing is removed here.

    Returns:
        The checkpoints to be replaced, and what :func:`identify` says of them; empty unless ``overwrite``.

    Raises:
        OutputError: If there are checkpoints and neither flag is given, or both are; or if the run would write over a
            checkpoint that it starts from.
    """
    if resume and overwrite:
        raise OutputError('--resume goes on with the checkpoints that --overwrite replaces: pass one of them')
    found = dict(_earlier_checkpoints(cfg))
    if found and not (resume or overwrite):
        names = first_names(sorted(file.name for file in found))
        raise OutputError(
            f'work directory {cfg.work_dir} already holds {len(found)} checkpoint(s) ({names}): pass --resume to go on '
            'from the last one, --overwrite to replace them, or another --work-dir'
        )
    if not overwrite:
        return {}
    for name, source in _sources(cfg):
        taken = next((file for file in found if os.path.exists(source) and os.path.samefile(file, source)), None)
        if taken is not None:
            raise OutputError(
                f'{name} names {source}, which --overwrite would replace: move it out of {taken.parent}, or pass '
                'another --work-dir'
            )
    return found


def _earlier_checkpoints(cfg: Config) -> Iterator[tuple[Path, list[int]]]:
    name = _name_pattern(checkpoint_hook(cfg).get('filename_tmpl'))
    for folder in checkpoint_folders(cfg):
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            identity = identify(file)
            if identity is not None and name.fullmatch(file.name):
                yield file.absolute(), identity


def _name_pattern(template: str | None) -> re.Pattern[str]:
    """What checkpoint hooks call their files: also the best ones, and those they publish."""
    names = [r'(epoch|iter)_\d+']
    if template:
        names.append(re.escape(template.removesuffix('.pth')).replace(r'\{\}', r'\d+'))
    return re.compile(rf'(best_.+_)?({"|".join(names)})(-[0-9a-f]{{8}})?\.pth')


def _sources(cfg: Config) -> Iterator[tuple[str, str]]:
    """Yield the local checkpoints that training starts from, with what names them."""
    if cfg.get('load_from'):
        yield 'load_from', cfg.load_from
    for path, _ in pretrained_files(cfg.model):
        yield 'init_cfg', path
