"""The work of ``tools/train.py``: one way to train classifiers, segmentors and detectors."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..checkpoints.loading import find_latest_checkpoint
from ..checkpoints.reading import read_checkpoint, safe_loading
from ..engine.config import (
    checkpoint_folders,
    enable_amp,
    enable_auto_scale_lr,
    fit_to_device_with_notes,
    load_config,
    set_dataloader_defaults,
    set_work_dir,
)
from ..engine.launch import check_launch
from ..engine.run_lock import run_lock
from ..engine.runner.runner import SafeRunner, build_runner
from ..preflight.dry_pass import dry_pass
from ..preflight.files import check_checkpoints, check_data, note_random_start
from ..preflight.loaders import check_loaders
from ..preflight.pretrained import check_pretrained
from ..preflight.settings import check_settings
from ..preflight.visualizers import check_vis_backends, enable_tensorboard
from ..preflight.work_dir import check_work_dir
from ..utils.errors import ConfigError, InterruptedTrainingError, doing, naming
from ..utils.files import clear_partials
from ..utils.interrupts import stopped_by
from ..utils.processes import is_first_process
from ..utils.removal import identify


def train(
    config: str,
    work_dir: str | None = None,
    resume: str | None = None,
    overwrite: bool = False,
    amp: bool = False,
    auto_scale_lr: bool = False,
    no_validate: bool = False,
    tensorboard: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    launcher: str = 'none',
    trust_checkpoint: bool = False,
    resume_command: str = 'the same command with --resume',
    dry_run: bool = True,
) -> SafeRunner:
    """Train the model of a config. Everything that can be checked is checked before anything is written.

    Args:
        config: Path of the config file; its ``default_scope`` decides the task.
        work_dir: Folder for logs and checkpoints; the config's own or ``./work_dirs/<config stem>`` by default.
        resume: 'auto' for the last checkpoint of the work directory, or the path of one.
        overwrite: Replace the checkpoints of an earlier run; they go when the new run has saved its first one.
        amp: Mixed precision.
        auto_scale_lr: Scale the learning rate by the real batch size over the config's ``base_batch_size``.
        no_validate: Leave validation out.
        tensorboard: Also write TensorBoard events.
        cfg_options: Dotted names and values merged into the config.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        trust_checkpoint: Unpickle checkpoints without restriction.
        resume_command: What to type after an interruption, for the message.
        dry_run: Try the training step on a batch of two samples first, without a trace.

    Returns:
        The runner, after training.

    Raises:
        UserError: One of its kinds, for whatever the caller can put right.
        InterruptedTrainingError: After Ctrl-C or another signal to end, naming the last whole checkpoint.
    """
    check_launch(launcher)
    with safe_loading(trust_checkpoint), doing(f'training with {config}'):
        cfg = load_config(config, cfg_options)
        _require_training(cfg)
        cfg.launcher = launcher
        if no_validate:
            cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        check_settings(cfg, unused=['test_*'])
        set_work_dir(cfg, work_dir)
        set_dataloader_defaults(cfg)
        if amp:
            enable_amp(cfg)
        if auto_scale_lr:
            enable_auto_scale_lr(cfg)
        if tensorboard:
            enable_tensorboard(cfg)
        check_vis_backends(cfg)
        notes = fit_to_device_with_notes(cfg)
        first = is_first_process(launcher)
        with run_lock(cfg.work_dir, notes.append) if first else nullcontext():
            return _train(cfg, resume, overwrite, trust_checkpoint, notes, first, resume_command, dry_run)


def _train(
    cfg: Config,
    resume: str | None,
    overwrite: bool,
    trust: bool,
    notes: list[str],
    first: bool,
    resume_command: str,
    dry_run: bool,
) -> SafeRunner:
    """Check, build and train in a work directory that is this run's own."""
    replaced: dict[Path, list[int]] = {}
    try:
        notes += _choose_start(cfg, resume)
        notes += note_random_start(cfg)
        loaders = [name for name in ('train_dataloader', 'val_dataloader') if cfg.get(name) is not None]
        check_data(cfg, loaders)
        pretrained = {}
        if first:
            for folder in checkpoint_folders(cfg):
                clear_partials(folder)
            replaced = check_work_dir(cfg, resume is not None or cfg.resume, overwrite)
            pretrained = check_checkpoints(cfg, trust)
            if cfg.get('load_from') and '://' not in cfg.load_from:
                read_checkpoint(cfg.load_from, trust=trust)
        runner = build_runner(cfg, trust, notes, replaced)
        if not cfg.resume:
            check_pretrained(runner.model, pretrained)
        check_loaders(runner, loaders)
        with naming('the optimizer'):
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        if dry_run:
            dry_pass(runner)
        if replaced:
            runner.logger.warning(
                f'--overwrite: {len(replaced)} checkpoint(s) of an earlier run in {runner.work_dir} will be removed '
                f'when this run has saved its first one: {", ".join(file.name for file in replaced)}'
            )
        with doing(f'training with {cfg.filename}', runner.log_dir):
            runner.train()
        return runner
    except BaseException as error:  # also what a library has made of a signal
        if isinstance(error, KeyboardInterrupt) or stopped_by() is not None:
            raise InterruptedTrainingError(_after_interrupt(cfg, replaced, resume_command)) from error
        raise


def _require_training(cfg: Config) -> None:
    missing = [name for name in ('train_cfg', 'train_dataloader', 'optim_wrapper') if cfg.get(name) is None]
    if missing:
        raise ConfigError(f'config {cfg.filename} cannot be trained: it lacks {", ".join(missing)}')


def _choose_start(cfg: Config, resume: str | None) -> list[str]:
    """Set ``cfg.resume`` and ``cfg.load_from``; return what to log about it."""
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    if resume is None:
        cfg.resume = False
        return []
    if resume != 'auto':
        cfg.resume, cfg.load_from = True, resume
        return []
    latest = find_latest_checkpoint(*checkpoint_folders(cfg))
    cfg.resume = latest is not None
    if latest is None:
        return [f'--resume: no checkpoint in {cfg.work_dir} yet, starting from the beginning']
    cfg.load_from = str(latest)
    return [f'--resume: going on from {latest}']


def _after_interrupt(cfg: Config, replaced: Mapping[Path, list[int]], resume_command: str) -> str:
    last = find_latest_checkpoint(*checkpoint_folders(cfg))
    if last is None:
        return f'no checkpoint had been saved in {cfg.work_dir}; start again with the same command'
    last = last.resolve()
    if any(identify(path) == identity for path, identity in replaced.items()):
        return f'this run had saved no checkpoint; those of the earlier run are whole, the last is {last}'
    return f'the last whole checkpoint is {last}; resume with: {resume_command}'
