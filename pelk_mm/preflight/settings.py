"""The plain settings of a config: those that mmengine rejects late or without a name, or takes in silence."""

import difflib
import inspect
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.registry import FUNCTIONS, METRICS, MODELS, OPTIMIZERS, DefaultScope, Registry
from mmengine.runner import Runner
from mmengine.runner.priority import Priority
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from ..engine.config import type_name
from ..utils.checks import check_flag, check_int, check_number
from ..utils.errors import ConfigError

#: Raises TypeError or ValueError, which names the setting, unless the value can be used.
Rule = Callable[[str, Any], None]

_PRIORITIES = tuple(level.name for level in Priority)


def _must(be: str, fits: Callable[[Any], bool]) -> Rule:
    def rule(name: str, value: Any) -> None:
        if not fits(value):
            raise ValueError(f'{name} must be {be}, but got {value!r}')

    return rule


def _whole(minimum: int | None = None, maximum: int | None = None) -> Rule:
    return partial(check_int, minimum=minimum, maximum=maximum)


def _number(minimum: float | None = None, maximum: float | None = None) -> Rule:
    return partial(check_number, minimum=minimum, maximum=maximum)


def _one_of(*choices: Any) -> Rule:
    # 1 == True, which is no choice of a number
    return _must(
        f'one of {", ".join(map(repr, choices))}', lambda v: any(type(v) is type(c) and v == c for c in choices)
    )


def _or(choice: Any, rule: Rule) -> Rule:
    """Let one more value than those of the rule pass."""

    def either(name: str, value: Any) -> None:
        if type(value) is not type(choice) or value != choice:
            rule(name, value)

    return either


_optional = partial(_or, None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and all(map(fits, value))


def _listed(value: Any) -> list | tuple:
    return value if isinstance(value, list | tuple) else [value]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ''


def _is_level(value: Any) -> bool:
    return _is_whole(value, 0) or (isinstance(value, str) and isinstance(logging.getLevelName(value), int))


def _is_template(value: Any) -> bool:
    try:
        return value.format(1) != value.format(2)
    except (AttributeError, IndexError, KeyError, ValueError):
        return False


def _is_backend(value: Any) -> bool:
    # torch also takes one a device, 'cpu:gloo,cuda:nccl'
    known = torch.distributed.Backend.backend_list if torch.distributed.is_available() else [value]
    return isinstance(value, str) and all(part.split(':')[-1].lower() in known for part in value.split(','))


def _arguments_of(*functions: Callable) -> Rule:
    """Keys must be arguments of one of the functions, the last of which is called with them when it is too late."""
    parameters = [inspect.signature(function).parameters for function in functions]
    known = {name for group in parameters for name in group} - {'self', 'kwargs'}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters[-1].values())

    def rule(name: str, value: Mapping) -> None:
        unknown = [key for key in value if key not in {*known, 'type', 'priority'}]
        if unknown and not takes_any:
            close = difflib.get_close_matches(unknown[0], known, 1)
            hint = f': did you mean {close[0]!r}?' if close else f'; it takes {", ".join(sorted(known))}'
            raise ValueError(f'{name} takes no argument {unknown[0]!r}{hint}')

    return rule


def _registered(registry: Registry, name: str) -> Any:
    with registry.switch_scope_and_registry(None) as current:  # that of the config's default_scope
        return current.get(name)


def _name_in(registry: Registry, what: str) -> Rule:
    def rule(name: str, value: Any) -> None:
        if isinstance(value, str) and _registered(registry, value) is None:
            raise ValueError(f'{name} must name {what}, but got {value!r}: is its module in custom_imports?')

    return rule


def _check_metric(name: str, value: Mapping) -> None:
    if 'metrics' not in value:
        _name_in(METRICS, 'a metric')(f'{name}.type', value['type'])


def _check_average(name: str, value: Mapping) -> None:
    kind = value.get('ema_type', 'ExponentialMovingAverage')
    average = _registered(MODELS, kind) if isinstance(kind, str) else kind
    if average is None:
        raise ValueError(f'{name}.ema_type must name a model average, but got {kind!r}')
    _arguments_of(EMAHook.__init__, average)(name, value)


def _check_clip_grad(name: str, value: Any) -> None:
    _must('a dict such as dict(max_norm=1.0)', lambda v: isinstance(v, Mapping) and bool(v))(name, value)
    _arguments_of(clip_grad_value_ if value.get('type') == 'value' else clip_grad_norm_)(name, value)


_DICT = _must('a dict', lambda v: isinstance(v, Mapping))
_TEXT = _must('a string that is not empty', _is_text)
_TEXTS = _must('a string or a list of strings', lambda v: _is_text(v) or _is_list(v, _is_text))
_ABOVE_0 = _must('a number above 0', lambda v: _is_number(v) and v > 0)  # inf passes: it clips nothing, but logs
_SHARE = _must('a number above 0 and at most 1', lambda v: _is_number(v) and 0 < v <= 1)
_STDS = _must('a list of numbers above 0', lambda v: _is_list(v, lambda part: _is_number(part) and part > 0))
_PRIORITY = _must(
    f'in 0..100 or one of {", ".join(_PRIORITIES)}',
    lambda v: v.upper() in _PRIORITIES if isinstance(v, str) else _is_whole(v, 0) and v <= 100,
)

#: What a setting must be, by its dotted name. A part of a name in angle brackets stands for every dict with such a type
#: at its place, whether the config has one, a list or a dict of them. Whatever has no entry passes.
RULES: dict[str, Rule] = {
    'default_scope': _optional(_TEXT),
    'work_dir': _optional(_must('a path', lambda v: isinstance(v, str | os.PathLike))),
    'load_from': _optional(_TEXT),
    'resume': _optional(check_flag),
    'log_level': _must("the name of a level of logging, such as 'INFO'", _is_level),
    'log_processor.window_size': _whole(1),
    'log_processor.by_epoch': check_flag,
    'visualizer': _optional(_DICT),
    'model.data_preprocessor.std': _optional(_STDS),
    'data_preprocessor.std': _optional(_STDS),
    'find_unused_parameters': _optional(check_flag),
    'compile': _optional(_must('True, False or a dict', lambda v: isinstance(v, bool | Mapping))),
    'randomness': _DICT,
    'randomness.seed': _optional(_whole(0, 2**32 - 1)),
    'randomness.deterministic': check_flag,
    'randomness.diff_rank_seed': check_flag,
    'env_cfg': _DICT,
    'env_cfg.cudnn_benchmark': check_flag,
    'env_cfg.resource_limit': _whole(1),
    'env_cfg.mp_cfg': _DICT,
    'env_cfg.mp_cfg.mp_start_method': _one_of('fork', 'spawn', 'forkserver'),
    'env_cfg.mp_cfg.opencv_num_threads': _whole(),
    'env_cfg.dist_cfg': _DICT,
    'env_cfg.dist_cfg.backend': _must("a back-end of torch.distributed, such as 'nccl' or 'gloo'", _is_backend),
    'env_cfg.dist_cfg.timeout': _optional(_ABOVE_0),
    'train_cfg': _must(
        'a dict with either type or by_epoch', lambda v: isinstance(v, Mapping) and ('type' in v) != ('by_epoch' in v)
    ),
    'train_cfg.by_epoch': check_flag,
    'train_cfg.max_epochs': _whole(1),
    'train_cfg.max_iters': _whole(1),
    'train_cfg.val_begin': _whole(0),
    'train_cfg.val_interval': _whole(1),
    'train_cfg.dynamic_intervals': _optional(
        _must(
            'a list of pairs (first step, interval of at least 1)',
            lambda v: _is_list(v, lambda p: _is_list(p, lambda _: True) and len(p) == 2)
            and all(_is_whole(step, 0) and _is_whole(interval, 1) for step, interval in v),
        )
    ),
    '*_cfg.fp16': check_flag,
    '*_dataloader': _optional(_DICT),
    '*_dataloader.batch_size': _optional(_whole(1)),
    '*_dataloader.num_workers': _whole(0),
    '*_dataloader.pin_memory': _optional(check_flag),
    '*_dataloader.collate_fn.type': _name_in(FUNCTIONS, 'a function that collates samples'),
    '*_dataloader.dataset.reduce_zero_label': check_flag,
    '*_dataloader.sampler.shuffle': check_flag,
    '*_evaluator': _optional(
        _must(
            'a dict with a type, or a list of such',
            lambda v: all(isinstance(m, Mapping) and m.keys() & {'type', 'metrics'} for m in _listed(v)),
        )
    ),
    '*_evaluator.<*>': _check_metric,
    '*_evaluator.<*>.collect_device': _one_of('cpu', 'gpu', 'npu'),
    'optim_wrapper': _DICT,
    'optim_wrapper.accumulative_counts': _whole(1),
    'optim_wrapper.clip_grad': _optional(_check_clip_grad),
    'optim_wrapper.clip_grad.max_norm': _ABOVE_0,
    'optim_wrapper.clip_grad.norm_type': _or('inf', _ABOVE_0),
    'optim_wrapper.clip_grad.clip_value': _ABOVE_0,
    'optim_wrapper.loss_scale': _must(
        "'dynamic', a dict or a number above 0",
        lambda v: v == 'dynamic' or isinstance(v, Mapping) or (_is_number(v) and v > 0),
    ),
    'optim_wrapper.optimizer.type': _name_in(OPTIMIZERS, 'an optimizer'),
    'optim_wrapper.optimizer.lr': _optional(_number(0)),
    'optim_wrapper.optimizer.weight_decay': _optional(_number(0)),
    'auto_scale_lr': _optional(
        _must(
            'a dict with base_batch_size',
            lambda v: isinstance(v, Mapping) and ('base_batch_size' in v or not v.get('enable')),
        )
    ),
    'auto_scale_lr.enable': check_flag,
    'auto_scale_lr.base_batch_size': _whole(1),
    'param_scheduler.<*>.by_epoch': check_flag,
    'param_scheduler.<*>.convert_to_iter_based': check_flag,
    'param_scheduler.<*>.begin': _number(0),  # in parts of an epoch with convert_to_iter_based
    'param_scheduler.<*>.end': _ABOVE_0,
    'param_scheduler.<*>.start_factor': _SHARE,
    'param_scheduler.<*>.end_factor': _number(0, 1),
    'param_scheduler.<*>.factor': _SHARE,
    'param_scheduler.<*>.gamma': _number(0),
    'param_scheduler.<*>.power': _number(),
    'param_scheduler.<*>.eta_min': _optional(_number(0)),
    'param_scheduler.<*>.eta_min_ratio': _optional(_number(0)),
    'param_scheduler.<*>.T_max': _optional(_ABOVE_0),
    'param_scheduler.<*>.step_size': _whole(1),
    'param_scheduler.<*>.milestones': _must(
        'a list of numbers of at least 0', lambda v: _is_list(v, lambda step: _is_number(step) and step >= 0)
    ),
    'default_hooks': _optional(_DICT),
    'custom_hooks': _optional(_must('a list of dicts', lambda v: isinstance(v, list | tuple))),
    '*_hooks.<*>.priority': _PRIORITY,
    '*_hooks.<CheckpointHook>': _arguments_of(CheckpointHook.__init__, Runner.save_checkpoint),
    '*_hooks.<*CheckpointHook>.interval': _or(-1, _whole(1)),
    '*_hooks.<*CheckpointHook>.by_epoch': check_flag,
    '*_hooks.<*CheckpointHook>.save_last': check_flag,
    '*_hooks.<*CheckpointHook>.save_begin': _whole(0),
    '*_hooks.<*CheckpointHook>.save_optimizer': check_flag,
    '*_hooks.<*CheckpointHook>.save_param_scheduler': check_flag,
    '*_hooks.<*CheckpointHook>.save_best': _optional(_TEXTS),
    '*_hooks.<*CheckpointHook>.rule': _optional(
        _must(
            "'greater', 'less' or a list of them",
            lambda v: all(rule in ('greater', 'less') for rule in _listed(v)),
        )
    ),
    '*_hooks.<*CheckpointHook>.max_keep_ckpts': _or(-1, _whole(1)),
    '*_hooks.<*CheckpointHook>.filename_tmpl': _optional(
        _must("a name with a place for the step, as 'step_{}.pth'", _is_template)
    ),
    '*_hooks.<LoggerHook>.interval': _whole(1),
    '*_hooks.<LoggerHook>.log_metric_by_epoch': check_flag,
    '*_hooks.<EMAHook>': _check_average,
    '*_hooks.<EMAHook>.momentum': _number(0, 1),
    '*_hooks.<EMAHook>.interval': _whole(1),
}  # fmt: skip


def check_settings(cfg: Config, unused: Collection[str] = ()) -> None:
    """Check the settings of a config that :data:`RULES` names, before anything is built.

    Args:
        cfg: The config.
        unused: Patterns of names at its top that are not looked at, such as 'test_*'.

    Raises:
        ConfigError: Naming the first setting that cannot be used, its value and what would be right.
    """
    used = {name: value for name, value in cfg.items() if not any(fnmatchcase(name, p) for p in unused)}
    scope = cfg.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope if isinstance(scope, str) else None):
        for pattern, rule in RULES.items():
            for name, value in _find(used, pattern.split('.'), ''):
                try:
                    rule(name, value)
                except (TypeError, ValueError) as error:
                    raise ConfigError(str(error)) from error


def _find(node: Any, pattern: list[str], name: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and the values that a pattern stands for, below a part of a config."""
    if not pattern:
        yield name, node
        return
    first, rest = pattern[0], pattern[1:]
    if first.startswith('<'):
        children = [
            (key, part) for key, part in _parts(node, name) if fnmatchcase(type_name(part['type']), first[1:-1])
        ]
    elif isinstance(node, Mapping):
        children = [(f'{name}.{key}'.lstrip('.'), node[key]) for key in node if fnmatchcase(key, first)]
    else:
        children = []
    for key, child in children:
        yield from _find(child, rest, key)


def _parts(node: Any, name: str) -> Iterator[tuple[str, Mapping]]:
    """Yield the dicts with a type below a part of a config, and itself if it is one."""
    if isinstance(node, Mapping) and 'type' in node:
        yield name, node
    elif isinstance(node, Mapping):
        for key, child in node.items():
            yield from _parts(child, f'{name}.{key}')
    elif isinstance(node, list | tuple):
        for i, child in enumerate(node):
            yield from _parts(child, f'{name}.{i}')
