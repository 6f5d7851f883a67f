"""The work of ``tools/test.py``: one way to evaluate classifiers, segmentors and detectors."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from ..checkpoints.deploy import can_be_deployed, is_deployed
from ..checkpoints.reading import read_checkpoint, safe_loading
from ..engine.config import fit_to_device_with_notes, load_config, set_dataloader_defaults, set_work_dir
from ..engine.launch import check_launch
from ..engine.runner.runner import build_runner
from ..preflight.files import check_data
from ..preflight.loaders import check_loaders
from ..preflight.settings import check_settings
from ..preflight.visualizers import check_vis_backends
from ..utils.errors import ConfigError
from .test_flags import enable_tta, set_out, set_show


def evaluate(
    config: str,
    checkpoint: str,
    work_dir: str | None = None,
    out: str | None = None,
    show: bool = False,
    show_dir: str | None = None,
    tta: bool = False,
    deploy: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    launcher: str = 'none',
    trust_checkpoint: bool = False,
    overwrite: bool = False,
) -> dict[str, float]:
    """Evaluate a checkpoint on the test data of a config.

    A checkpoint in the deployed form is recognised, and the model switched before its weights are loaded.

    Args:
        config: Path of the config file; its ``default_scope`` decides the task.
        checkpoint: Path or URL. Every key of the model must be in it.
        work_dir: Folder for logs; the config's own or ``./work_dirs/<config stem>`` by default.
        out: Where to dump predictions: a folder of PNG label maps for segmentors, else a pickle file.
        show: Paint predictions in a window.
        show_dir: Paint predictions into this folder.
        tta: Test-time augmentation.
        deploy: Test in the deployed form.
        cfg_options: Dotted names and values merged into the config.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        trust_checkpoint: Unpickle the checkpoint without restriction.
        overwrite: Predictions and pictures may replace files of the same names.

    Returns:
        The metrics by name.

    Raises:
        UserError: One of its kinds, for whatever the caller can put right.
    """
    check_launch(launcher)
    with safe_loading(trust_checkpoint):
        cfg = load_config(config, cfg_options)
        _require_testing(cfg)
        cfg.launcher = launcher
        cfg.load_from, cfg.resume = checkpoint, False
        check_settings(cfg, unused=['train_*', 'val_*', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'])
        set_work_dir(cfg, work_dir)
        set_dataloader_defaults(cfg)
        if show or show_dir is not None:
            set_show(cfg, show, show_dir, overwrite)
        if tta:
            enable_tta(cfg)
        if out is not None:
            set_out(cfg, out, overwrite, [config, checkpoint])
        if deploy:
            cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), {'type': 'pelk_mm.SwitchToDeployHook'}]
        check_vis_backends(cfg)
        check_data(cfg, ['test_dataloader'])
        if '://' not in checkpoint and is_deployed(read_checkpoint(checkpoint, trust=trust_checkpoint)):
            # Its weights are the average already, and that hook would keep a copy of the model in the trained form.
            cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if not _averages(hook)]
        runner = build_runner(cfg, trust_checkpoint, fit_to_device_with_notes(cfg))
        if deploy and not can_be_deployed(runner.model):
            raise ConfigError(f'--deploy: the model of {config} has no module with switch_to_deploy()')
        check_loaders(runner, ['test_dataloader'])
        return runner.test()


def _require_testing(cfg: Config) -> None:
    missing = [name for name in ('test_cfg', 'test_dataloader', 'test_evaluator') if cfg.get(name) is None]
    if missing:
        raise ConfigError(f'config {cfg.filename} cannot be tested: it lacks {", ".join(missing)}')


def _averages(hook: Any) -> bool:
    """Whether a hook's config names EMAHook, mmengine's or a toolbox's."""
    kind = hook.get('type') if isinstance(hook, Mapping) else type(hook)
    return str(getattr(kind, '__name__', kind)).split('.')[-1] == 'EMAHook'
