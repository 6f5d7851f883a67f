"""The settings a run was made with, in plain values: stored in its checkpoints, compared when one is resumed.

A checkpoint holds its config as the text of a program, which is never executed here.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import mmengine
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict

from ...checkpoints.loading import unwrap
from ...utils.errors import CheckpointError

# What of a config can change how a run goes on, or where it is written.
_READ = (
    'activation_checkpointing', 'auto_scale_lr', 'compile', 'custom_hooks', 'data_preprocessor', 'default_hooks',
    'default_scope', 'efficient_conv_bn_eval', 'env_cfg', 'find_unused_parameters', 'launcher', 'log_processor',
    'model', 'model_wrapper_cfg', 'optim_wrapper', 'param_scheduler', 'randomness', 'sync_bn', 'train_cfg',
    'train_dataloader', 'val_cfg', 'val_dataloader', 'val_evaluator', 'work_dir',
)  # fmt: skip
# Loading the state of the optimizer and the schedulers brings these back as they were.
_KEPT = ('optim_wrapper.optimizer', 'optim_wrapper.paramwise_cfg', 'param_scheduler', 'auto_scale_lr')
_ORDER = ('train_dataloader.sampler', 'train_dataloader.batch_sampler', 'train_dataloader.drop_last')
_ABSENT = 'absent'
_SHOWN = 8


def flatten(cfg: Mapping[str, Any]) -> dict[str, str]:
    """Write the settings of a config that matter when resuming as dotted names and the ``repr`` of plain values.

    The seed is left out: that of the checkpoint holds.
    """
    flat = dict(_leaves({name: cfg[name] for name in _READ if cfg.get(name) is not None}, ''))
    flat.pop('randomness.seed', None)
    return flat


def describe_run(runner: Any) -> dict[str, Any]:
    """Describe a run by plain values: what must be the same after resuming, and what should.

    Args:
        runner: A ``SafeRunner`` whose training loop and optimizer have been built.
    """
    loop, loader = runner.train_loop, runner.train_loop.dataloader
    names = {id(parameter): name for name, parameter in unwrap(runner.model).named_parameters()}
    wrapper = runner.optim_wrapper
    optimizers = dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else {'': wrapper}
    schedulers = runner.param_schedulers or []
    if isinstance(schedulers, dict):
        schedulers = [scheduler for group in schedulers.values() for scheduler in group]
    return {
        'loop': type(loop).__name__,
        'processes': get_world_size(),
        'batch_size': getattr(loader.batch_sampler, 'batch_size', loader.batch_size),
        'samples': len(loader.dataset) if hasattr(loader.dataset, '__len__') else None,
        'optimizers': {name: type(wrapper.optimizer).__name__ for name, wrapper in optimizers.items()},
        'groups': [
            [names.get(id(parameter), '') for parameter in group['params']]
            for wrapper in optimizers.values()
            for group in wrapper.optimizer.param_groups
        ],
        'schedulers': [type(scheduler).__name__ for scheduler in schedulers],
        'environment': {
            'torch': str(torch.__version__),
            'mmengine': mmengine.__version__,
            'device': 'cuda' if torch.cuda.is_available() else 'cpu',
            'threads': torch.get_num_threads(),
        },
        'config': runner.settings,
    }


def check_settings(saved: dict[str, Any], runner: Any, checkpoint: dict, source: str) -> None:
    """Compare the settings in a checkpoint with those of the runner that is to go on from it.

    What differs and is safe is named in one warning.

    Args:
        saved: As :func:`describe_run` returned it when the checkpoint was written.
        runner: The runner that resumes.
        checkpoint: The checkpoint, for what else it holds.
        source: The checkpoint's name, for messages.

    Raises:
        CheckpointError: Naming what differs, if going on would give a run that neither config describes.
    """
    now = describe_run(runner)
    changes = dict(compare_flat(saved['config'], now['config']))
    findings = [*_findings(saved, now)]
    findings += [_tell(name, *values) for name, values in changes.items() if name.startswith(_ORDER)]
    if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
        findings.append('averaged weights (EMAHook) then, none now')
    if findings:
        raise CheckpointError(
            f'checkpoint {source} cannot be resumed with this config: {"; ".join(findings)}. Set this as it was, or '
            'start anew from its weights with --cfg-options load_from=PATH'
        )
    notes = []
    if saved['processes'] != now['processes']:
        notes.append(f'{_steps(saved)} -> {_steps(now)}, which are the same samples')
        changes = {k: v for k, v in changes.items() if k not in ('launcher', 'train_dataloader.batch_size')}
    notes += [
        _tell(name, value, now['environment'].get(name))
        for name, value in saved['environment'].items()
        if value != now['environment'].get(name)
    ]
    notes += [
        _tell(name, *values) + (" (the checkpoint's holds)" if name.startswith(_KEPT) else '')
        for name, values in changes.items()
    ]
    if notes:
        rest = f' and {len(notes) - _SHOWN} more' if len(notes) > _SHOWN else ''
        print_log(
            f'Resuming {source} with other settings than it was written with: {"; ".join(notes[:_SHOWN])}{rest}',
            logger='current',
            level=logging.WARNING,
        )


def compare_flat(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the names whose values differ, with both values; a part that one side lacks is named once, as a whole."""
    seen = set()
    for name in [*before, *(name for name in after if name not in before)]:
        values = before.get(name, _ABSENT), after.get(name, _ABSENT)
        if values[0] == values[1]:
            continue
        if _ABSENT in values:
            other = after if name in before else before
            known = {prefix for key in other for prefix in _prefixes(key)}
            whole = next((prefix for prefix in _prefixes(name) if prefix not in known), name)
            if whole != name:
                name, values = whole, ('set', _ABSENT) if name in before else (_ABSENT, 'set')
        if name not in seen:
            seen.add(name)
            yield name, values


def _findings(saved: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield what makes the numbers in the checkpoint mean something else."""
    if saved['loop'] != now['loop']:
        yield f'training loop {saved["loop"]} then, {now["loop"]} now'
    if _samples_a_step(saved) != _samples_a_step(now):
        yield f'{_steps(saved)} then, {_steps(now)} now'
    if saved['samples'] != now['samples']:
        yield f'{saved["samples"]} training samples then, {now["samples"]} now'
    for name, what in (('optimizers', 'optimizer'), ('schedulers', 'param_scheduler')):
        if saved[name] != now[name]:
            yield f'{what} {_join(saved[name])} then, {_join(now[name])} now'
    if saved['groups'] != now['groups']:
        yield _other_groups(saved['groups'], now['groups'])


def _other_groups(before: list[list[str]], after: list[list[str]]) -> str:
    if len(before) != len(after):
        return f'{len(before)} parameter groups in the optimizer then, {len(after)} now'
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            only = [*(f'{name} then' for name in old if name not in new), *(f'{n} now' for n in new if n not in old)]
            return f'parameter group {i} of the optimizer holds {", ".join(only[:2]) or "another order"}'
    raise AssertionError('the groups are equal')


def _samples_a_step(run: dict[str, Any]) -> int | None:
    return None if run['batch_size'] is None else run['processes'] * run['batch_size']


def _steps(run: dict[str, Any]) -> str:
    return f'{run["processes"]} process(es) of batch size {run["batch_size"]}'


def _tell(name: str, before: Any, after: Any) -> str:
    return f'{name} {before} -> {after}'


def _join(names: dict[str, str] | list[str]) -> str:
    return ', '.join(names.values() if isinstance(names, dict) else names) or 'none'


def _prefixes(name: str) -> Iterator[str]:
    words = name.split('.')
    return ('.'.join(words[: i + 1]) for i in range(len(words)))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from _leaves(child, f'{name}.{key}' if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(child, Mapping) for child in value):
        for i, child in enumerate(value):
            yield from _leaves(child, f'{name}.{i}')
    else:
        yield name, _plain(value)


def _plain(value: Any) -> str:
    """Write a value without anything that changes from run to run, such as an address."""
    if isinstance(value, type) or callable(value):
        return f'{value.__module__}.{getattr(value, "__qualname__", type(value).__name__)}'
    if isinstance(value, list | tuple):
        return f'[{", ".join(map(_plain, value))}]'
    if value is None or isinstance(value, str | int | float | Mapping):
        return repr(value)
    return type(value).__name__
