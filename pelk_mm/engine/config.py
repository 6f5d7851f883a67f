"""Reading a config file and fitting it to the flags of the tools and to the machine."""

import importlib
import importlib.util
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ..utils.errors import ConfigError

TASKS = {'mmpretrain': 'classification', 'mmseg': 'segmentation', 'mmdet': 'detection'}
# Names at the top of a config that Runner reads from ``cfg`` itself, or that the tools read.
_READ_ELSEWHERE = (
    'sync_bn',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'activation_checkpointing',
    'efficient_conv_bn_eval',
    'compile',
    'tta_model',
    'tta_pipeline',
)


def load_config(path: str | Path, cfg_options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and merge ``--cfg-options`` into it.

    Args:
        path: A ``.py``, ``.yml``, ``.yaml`` or ``.json`` file.
        cfg_options: Dotted names and their values.

    Returns:
        The config; ``cfg.filename`` names its file.

    Raises:
        ConfigError: If the file is missing, is not a config, fails when executed, or an option names nothing in it; or
            if it is for mmdet and the mmcv that is installed has no operators that import.
    """
    file = Path(path)
    if not os.path.isfile(file):  # unlike the method of Path false, not an error, for a name that cannot be
        what = 'is a folder, not a file' if os.path.isdir(file) else 'does not exist'
        raise ConfigError(f'config {path} {what} (looked for {os.path.abspath(file)})')
    if file.suffix not in ('.py', '.yml', '.yaml', '.json'):
        raise ConfigError(f'config {path} is not a config: expected .py, .yml, .yaml or .json, but got {file.suffix!r}')
    try:
        cfg = Config.fromfile(str(file))
    except SyntaxError as error:
        where = f'line {error.lineno}' if error.lineno else 'unknown line'
        raise ConfigError(f'config {path} is not valid Python: {error.msg} ({where})') from error
    except UnicodeDecodeError as error:
        raise ConfigError(f'config {path} is not a text file: {error}') from error
    except (Exception, SystemExit) as error:  # a config is a program: it may raise anything
        cause = error.__cause__ or error  # mmengine wraps a failed custom import in a list of sys.path
        raise ConfigError(f'config {path} cannot be loaded: {type(error).__name__}: {_first_line(cause)}') from error
    if not isinstance(cfg.get('model'), Mapping):
        raise ConfigError(f"config {path} defines no 'model': is it a base file, or not a config at all?")
    if 'runner_type' in cfg:
        raise ConfigError(
            f'config {path} asks for runner_type={cfg.runner_type!r}, but these tools bring their own runner: '
            'remove runner_type, or use the tools of the toolbox'
        )
    _merge_options(cfg, cfg_options or {})
    if task_of(cfg) == 'detection':
        _check_operators(path)
    return cfg


def task_of(cfg: Config) -> str | None:
    """Tell the task from ``default_scope``: 'classification', 'segmentation', 'detection', or None if neither."""
    return TASKS.get(cfg.get('default_scope'))


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Set ``cfg.work_dir``: the flag, else the config's own, else ``./work_dirs/<config stem>``."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(cfg.filename).stem)


def checkpoint_folders(cfg: Config) -> list[Path]:
    """List where a run keeps its checkpoints: the work directory, then the ``out_dir`` of its checkpoint hook.

    A hook's ``out_dir`` on a remote back-end (``s3://...``) is left out.
    """
    folders = [Path(cfg.work_dir)]
    out_dir = str((checkpoint_hook(cfg).get('out_dir')) or '')
    if out_dir and '://' not in out_dir:
        folders.append(Path(out_dir, folders[0].name))
    return folders


def checkpoint_hook(cfg: Config) -> Mapping[str, Any]:
    """Return the settings of a config's checkpoint hook; empty where there is none."""
    return (cfg.get('default_hooks') or {}).get('checkpoint') or {}


def set_dataloader_defaults(cfg: Config) -> None:
    """Give mmpretrain's dataloaders the settings that its own tools give them; its configs count on those."""
    if cfg.get('default_scope') != 'mmpretrain':
        return
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if loader is not None:
            loader.setdefault('collate_fn', {'type': 'default_collate'})
            loader.setdefault('pin_memory', torch.cuda.is_available())
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)


def enable_amp(cfg: Config) -> None:
    """Turn on automatic mixed precision, keeping the optimizer wrapper's other settings.

    Raises:
        ConfigError: If the config has no optimizer wrapper, or one of another kind.
    """
    wrapper = cfg.get('optim_wrapper')
    kind = None if wrapper is None else type_name(wrapper.get('type', 'OptimWrapper'))
    if kind == 'BFloat16OptimWrapper':  # mixed precision already
        return
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ConfigError(f'--amp needs an optim_wrapper of type OptimWrapper, but the config has {kind}')
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: Config) -> None:
    """Let the learning rate follow the real batch size.

    Raises:
        ConfigError: If the config does not state for which batch size its learning rate is meant.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ConfigError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config, which has none')
    cfg.auto_scale_lr.enable = True


def fit_to_device_with_notes(cfg: Config) -> list[str]:
    """Replace what needs a GPU where there is none.

    Returns:
        One line for each change, to be logged.
    """
    if torch.cuda.is_available():
        return []
    notes = []
    wrapper = cfg.get('optim_wrapper')
    if wrapper is not None and type_name(wrapper.get('type', '')) == 'AmpOptimWrapper':
        wrapper.type = 'OptimWrapper'
        for name in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(name, None)
        notes.append('No GPU: training in float32, since mixed precision with loss scaling needs one')
    dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg', {})
    if dist_cfg.get('backend') == 'nccl':
        dist_cfg.backend = 'gloo'
    return notes


def _check_operators(path: str | Path) -> None:
    """Import mmcv's operators: mmdet needs them, and without them its registry only says that it has no detectors."""
    if importlib.util.find_spec('mmcv') is None:
        return
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        raise ConfigError(
            f"config {path} is for mmdet, which needs mmcv's compiled operators, and this mmcv has none that import "
            f'({_first_line(error)}): run bash tools/setup.sh, or install an mmcv that was built for this torch'
        ) from error


def _merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    read = {*inspect.signature(Runner.__init__).parameters, *_READ_ELSEWHERE}
    for name, value in options.items():
        top = name.split('.')[0]
        if top not in read:
            # A config has been executed by now: changing one of its variables would change nothing.
            reason = (
                f'{top} is a variable of the config file, already used; name the setting it goes into, '
                f'such as train_dataloader.dataset.{top}'
                if top in cfg
                else f'the config has no {top!r}, and nothing reads it'
            )
            raise ConfigError(f'--cfg-options {name}: {reason}')
        try:
            cfg.merge_from_dict({name: value})
        except (KeyError, TypeError, IndexError, ValueError) as error:
            reason = _first_line(error)
            raise ConfigError(f'--cfg-options {name}={value!r} does not fit the config: {reason}') from error


def type_name(kind: Any) -> str:
    """Name a type given as 'scope.Name' or, in configs of the new style, as the class."""
    return (kind if isinstance(kind, str) else kind.__name__).split('.')[-1]


def _first_line(error: BaseException) -> str:
    return str(error).strip().split('\n')[0]
