"""What a data worker cannot hand on is an error of the run; multiprocessing prints it, and the run waits for ever."""

from collections.abc import Callable
from functools import partial
from multiprocessing.queues import Queue
from typing import Any

from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader


def make_workers_tell(loader: DataLoader) -> DataLoader:
    """Let the workers of a loader send what went wrong with a batch on its way, too small a /dev/shm above all.

    Args:
        loader: Changed in place, before it is first iterated.

    Returns:
        The same loader.
    """
    loader.worker_init_fn = partial(_start, loader.worker_init_fn)
    return loader


def _start(then: Callable[[int], None] | None, worker: int) -> None:
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]  # the worker's own, as all it has
    if then is not None:
        then(worker)


def _send_error(queue: Any, error: Exception, item: Any) -> None:
    """Send the error in the place of the batch, as PyTorch does with what a data set raises."""
    failed = ExceptionWrapper((type(error), error, error.__traceback__), where='while a data worker sent a batch')
    queue.put((item[0], failed))
