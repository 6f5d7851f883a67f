"""Where scalars and pictures of a run go: TensorBoard by a flag, any back-end of mmengine by config."""

import importlib
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from ..engine.config import type_name
from ..utils.errors import ConfigError

# mmengine's back-ends import these when the first value is written: back-end -> (module, what pip installs).
_NEEDED = {
    'TensorboardVisBackend': ('torch.utils.tensorboard', 'tensorboard'),
    'WandbVisBackend': ('wandb', 'wandb'),
    'MLflowVisBackend': ('mlflow', 'mlflow'),
    'ClearMLVisBackend': ('clearml', 'clearml'),
    'NeptuneVisBackend': ('neptune', 'neptune'),
    'DVCLiveVisBackend': ('dvclive', 'dvclive'),
    'AimVisBackend': ('aim', 'aim'),
}


def enable_tensorboard(cfg: Config) -> None:
    """Let the run also write TensorBoard events, beside what the config's visualizer writes already.

    They go to ``<work dir>/<start time>/vis_data``, one folder a run: ``tensorboard --logdir <work dir>`` shows all of
    them in one plot. A config that names the back-end itself is left as it is.

    Args:
        cfg: The config; ``visualizer.vis_backends`` is extended.
    """
    if cfg.get('visualizer') is None:  # what mmengine's runner would build
        cfg.visualizer = {'type': 'Visualizer', 'vis_backends': [{'type': 'LocalVisBackend'}]}
    backends = _backends(cfg)
    if 'TensorboardVisBackend' not in map(_kind, backends):
        cfg.visualizer.vis_backends = [*backends, {'type': 'TensorboardVisBackend'}]


def check_vis_backends(cfg: Config) -> None:
    """See that the packages behind a config's visualization back-ends can be imported, before anything is written.

    Raises:
        ConfigError: Naming the back-end and the command that installs what it lacks.
    """
    for kind in map(_kind, _backends(cfg)):
        if kind not in _NEEDED:
            continue
        module, package = _NEEDED[kind]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(
                f'{kind} of the visualizer needs the package {package}, which cannot be imported ({error}): '
                f'pip install {package}, or take the back-end out of visualizer.vis_backends'
            ) from error


def _backends(cfg: Config) -> list[Any]:
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or []
    return [backends] if isinstance(backends, Mapping) else list(backends)


def _kind(backend: Any) -> str:
    """Name the class of a back-end; one that is built already needs no check."""
    return type_name(backend.get('type', '')) if isinstance(backend, Mapping) else type(backend).__name__
