"""mmengine's checkpoint hook, changed in its order only: an old checkpoint goes when the new one is whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...registry import HOOKS, register
from ...utils.files import write_text_atomic
from .run_state import KEY, collect_run_state


@register(HOOKS)
class SafeCheckpointHook(CheckpointHook):
    """Saves like mmengine's ``CheckpointHook`` and takes its arguments.

    mmengine removes the outdated checkpoint (``max_keep_ckpts``) and the previous best one (``save_best``) before it
    writes the new file, so that a full disk leaves none, and truncates ``last_checkpoint`` before it fills it. Here
    both removals wait until the new file is whole, and ``last_checkpoint`` is replaced in one step. The disk must hold
    one checkpoint more than ``max_keep_ckpts`` for the time of writing.

    Every checkpoint but the best one also holds, in ``meta['run_state']``, what exact resuming needs beyond mmengine's
    content: see ``collect_run_state``.
    """

    file_backend: Any  # set by before_train

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._removals_deferred():
            self._write(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removals_deferred():
            super()._save_best_checkpoint(runner, metrics)

    def _write(self, runner: Runner, step: int, meta: dict) -> None:
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            # The list of kept steps is part of the checkpoint, so it is brought up to date before saving.
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                if is_main_process():
                    self.file_backend.remove(self.file_backend.join_path(self.out_dir, outdated))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta={**meta, KEY: collect_run_state(runner, meta)},  # from all processes: the first one alone saves
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_text_atomic(os.path.join(runner.work_dir, 'last_checkpoint'), str(self.last_ckpt))

    @contextmanager
    def _removals_deferred(self) -> Iterator[None]:
        """Collect removals inside the block and carry them out when it has ended well."""
        if isinstance(self.file_backend, _DeferredRemovals):  # saving the best one saves the last one again
            yield
            return
        backend = self.file_backend
        deferred = self.file_backend = _DeferredRemovals(backend)
        try:
            yield
        finally:
            self.file_backend = backend
        current = {str(self.last_ckpt), *map(str, self._best_paths())}
        for path in deferred.paths:
            if path in current:  # written again under the same name
                continue
            if backend.isfile(path):
                backend.remove(path)
            elif backend.isdir(path):
                backend.rmtree(path)

    def _best_paths(self) -> list[Any]:
        if getattr(self, 'best_ckpt_path', None):
            return [self.best_ckpt_path]
        return list(getattr(self, 'best_ckpt_path_dict', {}).values())


class _DeferredRemovals:
    """A file backend that notes what to remove and does everything else at once."""

    def __init__(self, backend: Any) -> None:
        self.paths: list[str] = []
        self._backend = backend

    def remove(self, path: str) -> None:
        self.paths.append(str(path))

    rmtree = remove

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)
