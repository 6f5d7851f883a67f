"""mmengine's runner with checkpoints that are always whole, loading that runs no code, and CPU processes."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, is_distributed, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS, LOOPS
from mmengine.runner import BaseLoop, CheckpointLoader, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from ...checkpoints.contents import check_optimizer_shapes
from ...checkpoints.deploy import is_deployed, switch_to_deploy
from ...checkpoints.loading import find_latest_checkpoint, load_weights, unwrap
from ...checkpoints.reading import as_checkpoint, read_checkpoint, safe_loading
from ...checkpoints.schema import check
from ...utils.errors import CheckpointError, SaveError, naming
from ...utils.files import DISK_FULL, atomic_path
from ...utils.interrupts import raise_if_stopped, stop_deferred
from ...utils.removal import remove_if_unchanged
from ..config import checkpoint_folders
from ..meeting import meet_processes
from .checkpoint_hook import SafeCheckpointHook
from .data_workers import make_workers_tell
from .loops import ResumableEpochLoop, ResumableIterLoop
from .run_settings import check_settings, flatten
from .run_state import KEY, RULE, demand_training_state, restore_model_state, resume_position

_RESUMABLE: dict[Any, Any] = {EpochBasedTrainLoop: ResumableEpochLoop, IterBasedTrainLoop: ResumableIterLoop}


class SafeRunner(Runner):
    """Trains and tests as mmengine's ``Runner`` does, and loses nothing on the way.

    - A checkpoint is written beside its place and moved there when it is whole; ``CheckpointHook`` in a config means
      :class:`SafeCheckpointHook`.
    - Checkpoints are read by :func:`read_checkpoint`. Resuming and testing demand every key of the model, fine-tuning
      (``load_from``) some. A deployed checkpoint switches the model before its weights are loaded.
    - A run goes on from a checkpoint as if it had never stopped: see :mod:`.run_state`. A checkpoint of a run whose
      numbers would mean something else here is refused.
    - The config is written to the work directory when training starts, so that a run refused before leaves it alone.
    - Several CPU processes work (``gloo``); SyncBN becomes BN there, since it refuses CPU tensors.

    Args:
        trust_checkpoint: Unpickle checkpoints without restriction.
        replaced: Checkpoints of an earlier run in the same folder, and what ``identify`` says of them. They are
            removed when this run has saved its first one, not before, and only if they are still the same files.
        *args, **kwargs: mmengine's own.

    Attributes:
        settings: The config in plain values, which checkpoints carry.
        resumed_state: What the training loop needs to go on from a checkpoint, until it has taken it.
    """

    def __init__(
        self,
        *args: Any,
        trust_checkpoint: bool = False,
        replaced: Mapping[Path, list[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.trust_checkpoint = trust_checkpoint
        self.replaced = dict(replaced or {})
        self.resumed_state: dict[str, Any] | None = None
        self._starting: str | None = None
        # Before anything is built: building changes the config here and there.
        self.settings = flatten(kwargs.get('cfg') or {})
        super().__init__(*args, **kwargs)

    @classmethod
    def from_cfg(
        cls, cfg: Config, trust_checkpoint: bool = False, replaced: Mapping[Path, list[int]] | None = None
    ) -> SafeRunner:
        """Build a runner from a config; the other arguments are those of the class."""
        # mmengine's own builds `cls(...)` with what it reads from the config
        build = Runner.from_cfg.__func__  # type: ignore[attr-defined]
        return build(partial(cls, trust_checkpoint=trust_checkpoint, replaced=replaced), cfg)

    def train(self) -> nn.Module:
        """Launch training.

        Raises:
            CheckpointError: If the checkpoint to start from does not fit.
            SaveError: If the disk is full; the message names the last whole checkpoint.
        """
        self._starting = 'train'
        try:
            return super().train()
        except OSError as error:  # a log rather than a checkpoint: those raise SaveError by themselves
            if error.errno not in DISK_FULL:
                raise
            raise SaveError(self._describe_failed_save('file', Path(error.filename or self.log_dir), error)) from error

    def val(self) -> dict:
        """Launch validation."""
        self._starting = 'val'
        return super().val()

    def test(self) -> dict:
        """Launch testing."""
        self._starting = 'test'
        return super().test()

    def load_or_resume(self) -> None:
        """Load what the run starts from; then write its config.

        Raises:
            CheckpointError: As ``load_checkpoint``, or if the processes would not start from the same iteration.
        """
        super().load_or_resume()
        if self._starting == 'train':
            steps = all_gather_object(self.iter)
            if len(set(steps)) > 1:
                other = next(rank for rank, step in enumerate(steps) if step != steps[0])
                raise CheckpointError(
                    f'process 0 starts from iteration {steps[0]}, process {other} from iteration {steps[other]}: '
                    f'the work directory {self.work_dir} must be the same folder on every machine'
                )
            self.dump_config()

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop; mmengine's own two give way to those that resume exactly."""
        if isinstance(loop, dict):
            loop = copy.deepcopy(loop)
            if 'type' not in loop and 'by_epoch' in loop:
                loop['type'] = EpochBasedTrainLoop if loop.pop('by_epoch') else IterBasedTrainLoop
            kind = loop.get('type')
            kind = LOOPS.get(kind) if isinstance(kind, str) else kind
            if kind in _RESUMABLE:
                loop['type'] = _RESUMABLE[kind]
        return super().build_train_loop(loop)

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader as mmengine does; what its workers cannot hand on is an error."""
        return make_workers_tell(Runner.build_dataloader(*args, **kwargs))

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedulers of learning rate and momentum.

        Raises:
            ConfigError: If they cannot be built.
        """
        with naming('param_scheduler'):
            return super().build_param_scheduler(scheduler)

    def dump_config(self) -> None:
        """Write the config to the work directory, once training starts."""
        if self._starting == 'train':
            super().dump_config()

    def last_whole_checkpoint(self) -> Path | None:
        """Find the checkpoint that ``--resume`` would go on from."""
        return find_latest_checkpoint(self.work_dir, *checkpoint_folders(self.cfg)[1:])

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint; the arguments are mmengine's.

        Raises:
            SaveError: If the file cannot be written. No part of it is left, and earlier checkpoints are untouched.
        """
        if not is_main_process():
            return
        if not isinstance(get_file_backend(out_dir, backend_args=kwargs.get('backend_args')), LocalBackend):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        target = Path(out_dir, filename)
        try:
            # broken off by an exception, PyTorch's writer would abort the process
            with stop_deferred(), atomic_path(target) as partial:
                super().save_checkpoint(str(partial.parent), partial.name, *args, **kwargs)
        except OSError as error:
            raise SaveError(self._describe_failed_save('checkpoint', target, error)) from error
        for old, identity in self.replaced.items():
            if old != target.absolute():
                remove_if_unchanged(old, identity)
        self.replaced = {}

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: list | None = None,
    ) -> dict:
        """Read a checkpoint safely and load its weights.

        Args:
            filename: A local path, or a URL for mmengine to fetch.
            map_location: As for ``torch.load``.
            strict: Demand every key of the model, which testing and resuming do in any case.
            revise_keys: Not supported; a leading ``module.`` is always removed.

        Raises:
            CheckpointError: If the file is missing, damaged, unsafe, or of another architecture.
            ValueError: If ``revise_keys`` is given.
        """
        if revise_keys is not None:
            raise ValueError(f'revise_keys is not supported, but got {revise_keys}')
        checkpoint = self._read(filename, map_location)
        if not self.trust_checkpoint:
            # mmengine executes this entry as a Python config when it resumes.
            checkpoint.get('meta', {}).pop('config', None)
        if self._resume and self._starting == 'train':
            demand_training_state(checkpoint, filename)
            if KEY in checkpoint['meta']:
                check(checkpoint['meta'][KEY], RULE, f'meta.{KEY}', filename)
            self._compare_settings(checkpoint, filename)
            self.resumed_state = resume_position(checkpoint)
        demand_all = strict or self._resume or self._starting != 'train'
        try:
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        except RuntimeError:
            # EMAHook loads its copy of the model here. If the model does not fit either, say what does not.
            load_weights(self.model, checkpoint, filename, demand_all)
            raise
        if is_deployed(checkpoint):
            if self._starting == 'train':
                raise CheckpointError(
                    f'checkpoint {filename} is in its deployed form, which cannot be trained: '
                    'name the one it was converted from'
                )
            switch_to_deploy(self.model)
            self.logger.info(f'{filename} is in its deployed form: the model has been switched to it')
        load_weights(self.model, checkpoint, filename, demand_all)
        if self._resume and self._starting == 'train' and KEY in checkpoint['meta']:
            restore_model_state(checkpoint['meta'][KEY], self.model, filename)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume from a checkpoint that holds the state of training; arguments as mmengine's.

        Raises:
            CheckpointError: As ``load_checkpoint``, and if the state does not fit the optimizer of the config.
        """
        try:
            super().resume(filename, *args, **kwargs)
        except ValueError as error:
            raise CheckpointError(
                f'checkpoint {filename} cannot be resumed with this config: {error}. '
                'To start anew from its weights use --cfg-options load_from=PATH'
            ) from error
        wrapper = self.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        names = {id(parameter): name for name, parameter in unwrap(self.model).named_parameters()}
        check_optimizer_shapes([wrapper.optimizer for wrapper in wrappers], names, filename)

    def register_hook(self, hook: Hook | dict, priority: str | int | None = None) -> None:
        """Register a hook; mmengine's ``CheckpointHook`` gives way to ``SafeCheckpointHook``."""
        if isinstance(hook, dict) and 'type' in hook:
            kind = hook['type']
            if (HOOKS.get(kind) if isinstance(kind, str) else kind) is CheckpointHook:
                hook = dict(hook, type=SafeCheckpointHook)
        super().register_hook(hook, priority)

    def _init_model_weights(self) -> None:
        with naming('the initial weights (init_cfg)'):
            super()._init_model_weights()

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks, unless a signal has asked the run to end and some library has swallowed that."""
        raise_if_stopped()
        super().call_hook(fn_name, **kwargs)

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment: say whom it waits for, and use several CPU processes where there is no GPU.

        Raises:
            LaunchError: If another process does not come.
        """
        if self.launcher == 'pytorch' and not is_distributed():
            self._meeting = meet_processes((env_cfg.get('dist_cfg') or {}).get('timeout'))
        if self.distributed and not torch.cuda.is_available() and not is_distributed():
            # mmengine's own way selects a GPU first, and fails without one.
            torch.distributed.init_process_group(backend='gloo')
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes; on CPU without SyncBN and without device ids."""
        if self.distributed and not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
            self.logger.info('No GPU: SyncBN, where the model has it, works as BN in every process by itself')
            model_wrapper_cfg = copy.copy(model_wrapper_cfg) or {
                'type': 'MMDistributedDataParallel',
                'broadcast_buffers': False,
                'find_unused_parameters': self.cfg.get('find_unused_parameters', False),
            }
            model_wrapper_cfg.setdefault('device_ids', None)
            self.cfg.pop('sync_bn', None)
        return super().wrap_model(model_wrapper_cfg, model)

    def _read(self, filename: str, map_location: str | Callable) -> dict:
        if '://' not in filename:
            return read_checkpoint(filename, map_location, self.trust_checkpoint)
        with safe_loading(self.trust_checkpoint):
            return as_checkpoint(CheckpointLoader.load_checkpoint(filename, map_location), filename)

    def _compare_settings(self, checkpoint: dict, filename: str) -> None:
        state = checkpoint['meta'].get(KEY)
        if state is None:
            self.logger.warning(
                f'{filename} holds no random states, as another runner wrote it: training goes on with the right '
                'weights and learning rates, but not bit by bit as if it had never stopped'
            )
        elif state['settings'] is not None:
            check_settings(state['settings'], self, checkpoint, filename)

    def _describe_failed_save(self, what: str, target: Path, error: OSError) -> str:
        free = ''
        if error.errno in DISK_FULL and target.parent.is_dir():
            free = f' ({shutil.disk_usage(target.parent).free / 1e6:.0f} MB free there)'
        last = self.last_whole_checkpoint()
        kept = f'the last whole checkpoint is {last}; go on from it with --resume' if last else 'none was saved before'
        return f'cannot write {what} {target}: {error.strerror or error}{free}; {kept}'


def build_runner(
    cfg: Config, trust_checkpoint: bool, notes: Sequence[str] = (), replaced: Mapping[Path, list[int]] | None = None
) -> SafeRunner:
    """Build the runner with its model and hooks; ``notes`` go to its log, the rest is :class:`SafeRunner`'s.

    Raises:
        ConfigError: If a part of the config cannot be built.
    """
    with naming(f'the model and hooks of {cfg.filename}'):
        runner = SafeRunner.from_cfg(cfg, trust_checkpoint, replaced)
    for note in notes:
        runner.logger.warning(note)
    return runner
