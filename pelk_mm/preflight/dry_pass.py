"""One small batch through the training step before training starts: what does not fit together fails here, in seconds.

The pass leaves no trace. It works on a copy of the model, through copies of the data pipelines, with a message hub of
its own and without the step of the optimizer; random states are put back.
"""

import copy
import gc
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset

from ..checkpoints.loading import unwrap
from ..engine.runner.random_state import get_random_state, set_random_state
from ..engine.runner.runner import SafeRunner
from ..utils.errors import ConfigError, UserError
from .dry_pass_errors import Shapes, describe_model_error, describe_sample_error

#: BatchNorm takes at least two values of a channel while training, and a classifier may have one pixel left.
SAMPLES = 2


def dry_pass(runner: SafeRunner) -> None:
    """Send a batch through data pipeline, preprocessing, model, losses and backward pass, without a step.

    The batch holds the first and the last training sample, only one if the batches of the run do. Every process of a
    distributed run does the same, since losses and SyncBN may wait for the other processes. Whatever cannot be run so
    without a trace is left out, which the log says: a model with a ``train_step`` of its own, several optimizers, an
    iterable data set, a model that cannot be copied or whose weights are shared out over the processes.

    Weights may have no values yet, so that those of the losses say nothing and are not looked at.

    Args:
        runner: The runner, with its data loader and optimizer built, not yet started.

    Raises:
        ConfigError: Something failed; the message says where, and for common mistakes what to change.
    """
    try:
        _require_no_trace(runner)
        start = time.perf_counter()
        used = _run(runner)
    except _LeftOutError as reason:
        runner.logger.info(f'Dry pass: left out, since {reason}')
    else:
        runner.logger.info(f'Dry pass: {time.perf_counter() - start:.1f} s{used}')


class _LeftOutError(Exception):
    """Why the pass cannot be made without a trace."""


class _NoStep:
    """Stands for the optimizer wrapper: its context and a backward pass."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper

    def optim_context(self, model: nn.Module) -> AbstractContextManager:
        return self._wrapper.optim_context(model)

    def update_params(self, loss: Tensor) -> None:
        loss.backward()


def _require_no_trace(runner: SafeRunner) -> None:
    model, dataset = unwrap(runner.model), runner.train_dataloader.dataset
    if isinstance(dataset, IterableDataset):
        raise _LeftOutError('samples of an iterable data set cannot be read twice')
    if not _length(dataset):
        raise _LeftOutError('the data set is empty or has no length')
    if isinstance(runner.optim_wrapper, OptimWrapperDict):
        raise _LeftOutError('the config has several optimizers')
    if getattr(type(model), 'train_step', None) is not BaseModel.train_step:
        raise _LeftOutError(f'{type(model).__name__} has a train_step of its own')
    wrapped = [runner.model] if is_model_wrapper(runner.model) else []
    if not all(isinstance(m, DistributedDataParallel) for m in wrapped) or any(map(is_model_wrapper, model.modules())):
        raise _LeftOutError(f'{type(runner.model).__name__} shares the model out')


def _run(runner: SafeRunner) -> str:
    """Run the pass; return the memory of a GPU that it took, for the log."""
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    loader, model = runner.train_dataloader, _copied(unwrap(runner.model), 'the model')
    with _no_trace(runner), _copied_pipelines(loader.dataset):
        batch = _read_batch(loader, SAMPLES if _batch_size(loader) > 1 or runner.world_size > 1 else 1)
        _train_step(model, batch, runner)
    if not on_gpu:
        return ''
    peak = torch.cuda.max_memory_allocated()
    del model, batch
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return f', {peak / 1e9:.1f} GB'


def _copied(thing: Any, name: str) -> Any:
    try:
        return copy.deepcopy(thing)
    except Exception as error:  # what it holds may forbid it in any way
        raise _LeftOutError(f'{name} cannot be copied ({error})') from error


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError:  # a wrapper may have the method and nothing to ask
        return 0


def _batch_size(loader: DataLoader) -> int:
    return getattr(loader.batch_sampler, 'batch_size', loader.batch_size) or 1


def _read_batch(loader: DataLoader, count: int) -> Any:
    samples: list[Any] = []
    index = None
    try:
        for index in (0, _length(loader.dataset) - 1)[:count]:
            samples.append(loader.dataset[index])
        index = None
        return loader.collate_fn(samples if loader.batch_sampler is not None else samples[0])
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(describe_sample_error(error, index)) from error


def _train_step(model: nn.Module, batch: Any, runner: SafeRunner) -> None:
    shapes: Shapes = {}
    for name, child in model.named_children():
        child.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: _shapes_of(output)}))
    try:
        model.train()
        model.train_step(batch, _NoStep(runner.optim_wrapper))  # type: ignore[operator]
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(describe_model_error(error, model, shapes)) from error


def _shapes_of(output: Any) -> list[tuple[int, ...]]:
    outputs = output if isinstance(output, list | tuple) else [output]
    return [tuple(tensor.shape) for tensor in outputs if isinstance(tensor, Tensor)]


@contextmanager
def _no_trace(runner: SafeRunner) -> Iterator[None]:
    """Keep random states, the message hub and the choices of cuDNN as they are."""
    state, benchmark = get_random_state(), torch.backends.cudnn.benchmark
    # what hooks would have told models by the first iteration
    names = ('epoch', 'iter', 'max_epochs', 'max_iters')
    info = {name: getattr(runner.train_loop, name) for name in names if hasattr(runner.train_loop, name)}
    hub = MessageHub.get_instance(f'dry pass of {runner.experiment_name}', runtime_info=info)
    torch.backends.cudnn.benchmark = False  # the shapes are not those of training: trying every algorithm would be lost
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        MessageHub._instance_dict.pop(hub.instance_name)
        set_random_state(state)


@contextmanager
def _copied_pipelines(dataset: Any) -> Iterator[None]:
    """Let data sets read through copies of their pipelines: some transforms remember the images they have seen."""
    owners = [(owner, owner.pipeline) for owner in _with_wrappers(dataset) if hasattr(owner, 'pipeline')]
    copies = [_copied(pipeline, 'a data pipeline') for _, pipeline in owners]
    try:
        for (owner, _), pipeline in zip(owners, copies, strict=True):
            owner.pipeline = pipeline
        yield
    finally:
        for owner, pipeline in owners:
            owner.pipeline = pipeline


def _with_wrappers(dataset: Any) -> Iterator[Any]:
    yield dataset
    for child in getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]:
        if child is not None:
            yield from _with_wrappers(child)
