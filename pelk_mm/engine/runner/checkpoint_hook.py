"""mmengine's checkpoint hook, changed in what it removes: only files of its own run, and only for a new one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...registry import HOOKS, register
from ...utils.files import write_text_atomic
from ...utils.removal import identify, remove_if_unchanged
from .run_state import KEY, collect_run_state


@register(HOOKS)
class SafeCheckpointHook(CheckpointHook):
    """Saves like mmengine's ``CheckpointHook`` and takes its arguments.

    mmengine removes the outdated checkpoint (``max_keep_ckpts``) and the previous best one (``save_best``) before it
    writes the new file, so that a full disk leaves none, and truncates ``last_checkpoint`` before it fills it. Here
    both removals wait until the new file is whole, and ``last_checkpoint`` is replaced in one step. The disk must hold
    one checkpoint more than ``max_keep_ckpts`` for the time of writing.

    Only files that this run wrote are ever removed. A checkpoint names files to remove, by ``best_ckpt`` and
    ``keep_ckpt_ids`` of its message hub; it may come from another folder, or from anyone. So it also holds the name,
    the size and the time of each checkpoint that its run had written, and after resuming only a regular file in the
    folder of the checkpoints that still has all three counts as written by this run, besides the file resumed from.
    A copy that took new times is kept.

    Every checkpoint but the best one also holds, in ``meta['run_state']``, what exact resuming needs beyond mmengine's
    content: see ``collect_run_state``.
    """

    file_backend: Any  # set by before_train
    out_dir: Any  # mmengine's own, which before_train completes
    _earlier: dict[str, list[int]] | None = None
    _resumed: str | None = None
    _written: dict[str, list[int]]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note which files the run had written that goes on here."""
        if getattr(runner, '_resume', False):
            self._earlier = checkpoint.get('meta', {}).get(KEY, {}).get('files', {})
            self._resumed = runner._load_from

    def before_train(self, runner: Runner) -> None:
        """Find the folder of the checkpoints, and in it those that this run wrote before it was resumed."""
        info = runner.message_hub.runtime_info
        kept = list(info.pop('keep_ckpt_ids', []))  # mmengine would remove the outdated ones of these at once
        super().before_train(runner)
        self._written = self._find_written()
        names = {step: self.filename_tmpl.format(step) for step in kept}
        kept = [step for step in kept if names[step] in self._written]
        if self.max_keep_ckpts > 0:
            for step in kept[: -self.max_keep_ckpts]:
                self._remove(self._path(names[step]))
            self.keep_ckpt_ids.extend(kept)
            info['keep_ckpt_ids'] = list(self.keep_ckpt_ids)
        for key in [key for key in info if key.startswith('best_ckpt')]:
            name = Path(str(info[key])).name
            if name in self._written:
                info[key] = self._path(name)  # the folder may have been moved
            else:
                del info[key]
        self._take_best(info)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._removals_deferred():
            self._write(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removals_deferred():
            super()._save_best_checkpoint(runner, metrics)
            self._note_written(*self._best_paths())

    def _write(self, runner: Runner, step: int, meta: dict) -> None:
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            # The list of kept steps is part of the checkpoint, so it is brought up to date before saving.
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                if is_main_process():
                    self.file_backend.remove(self._path(outdated))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self._path(filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._note_written(*self._best_paths())
        state = {**collect_run_state(runner, meta), 'files': dict(self._written)}  # of all processes: the first saves
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta={**meta, KEY: state},
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._note_written(self.last_ckpt)
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
        current = {str(self.last_ckpt), *self._best_paths()}
        for path in deferred.paths:
            if path not in current:  # else written again under the same name
                self._remove(path)

    def _remove(self, path: str) -> None:
        """Remove a checkpoint if this run wrote it and nothing has taken its place."""
        name = os.path.basename(path)
        written = self._written.pop(name, None)
        if not is_main_process() or written is None or path != self._path(name):
            return
        if not self._is_local():
            self.file_backend.remove(path)
        else:
            remove_if_unchanged(path, written)

    def _find_written(self) -> dict[str, list[int]]:
        """Name the files in the folder of the checkpoints that are as an earlier part of this run left them."""
        if not self._is_local():
            return {}
        written = {
            name: identity
            for name, identity in (self._earlier or {}).items()
            if os.path.basename(name) == name and identify(self._path(name)) == identity
        }
        if self._resumed is not None and Path(self._resumed).resolve().parent == Path(self.out_dir).resolve():
            name = Path(self._resumed).name
            identity = identify(self._path(name))
            if identity is not None:
                written[name] = identity
        return written

    def _note_written(self, *paths: str) -> None:
        for path in paths:
            identity = identify(path) if self._is_local() else []
            if identity is not None:
                self._written[os.path.basename(path)] = identity

    def _is_local(self) -> bool:
        return isinstance(getattr(self.file_backend, 'inner', self.file_backend), LocalBackend)

    def _path(self, name: str) -> str:
        return str(self.file_backend.join_path(self.out_dir, name))

    def _take_best(self, info: dict) -> None:
        """Set the paths of the best checkpoints from what is left of them in the message hub."""
        if hasattr(self, 'best_ckpt_path'):
            self.best_ckpt_path = info.get('best_ckpt')
        for key in getattr(self, 'best_ckpt_path_dict', {}):
            self.best_ckpt_path_dict[key] = info.get(f'best_ckpt_{key}')

    def _best_paths(self) -> list[str]:
        paths = [getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()]
        return [str(path) for path in paths if path]


class _DeferredRemovals:
    """A file backend that notes what to remove and does everything else at once.

    Attributes:
        paths: What to remove.
        inner: The backend that does everything else.
    """

    def __init__(self, backend: Any) -> None:
        self.paths: list[str] = []
        self.inner = backend

    def remove(self, path: str) -> None:
        self.paths.append(str(path))

    rmtree = remove

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
