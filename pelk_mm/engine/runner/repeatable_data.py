"""Training data as a pure function of the seed and of the position in the run, whichever process reads it.

A data pipeline draws from the global generators of the process it runs in, so what a sample looks like depends on all
that this process has read before; no checkpoint can hold that for worker processes. Here every index that leaves the
sampler carries its position, and the generators are seeded from it for that one sample. A resumed run then reads the
samples that the run never stopped would have read, with any number of workers, and several processes together read what
one process with their whole batch reads.
"""

import copy
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from ...utils.errors import DataError, UserError
from ...utils.resources import explain_resources
from .random_state import seed_generators, seeded


class SeededIndex(NamedTuple):
    """An index into a data set, with what seeds the generators while its sample is read."""

    index: Any
    entropy: tuple[int, ...]


class SeededSamples(Dataset):
    """A data set whose every sample is read with generators seeded by its :class:`SeededIndex`.

    Everything else, setting attributes included, goes through to the data set inside; plain indices do too.
    """

    def __init__(self, samples: Any) -> None:
        vars(self)['_samples'] = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, SeededIndex):
            return self._samples[index]
        with _seeded_here(index.entropy), _naming_sample(self._samples, index.index):
            return self._samples[index.index]

    def __getitems__(self, indices: list[Any]) -> list[Any]:
        if not hasattr(self._samples, '__getitems__') or not isinstance(indices[0], SeededIndex):
            return [self[index] for index in indices]
        with _seeded_here(indices[0].entropy):  # the data set reads a batch at a time
            return self._samples.__getitems__([index.index for index in indices])

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or '_samples' not in vars(self):  # as while being unpickled
            raise AttributeError(name)
        return getattr(self._samples, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._samples, name, value)


def _seeded_here(entropy: tuple[int, ...]) -> AbstractContextManager[None]:
    """Seed for one sample. A worker process does nothing else, and keeping numpy's state takes longer than seeding."""
    if get_worker_info() is None:
        return seeded(entropy)
    seed_generators(entropy)
    return nullcontext()


@contextmanager
def _naming_sample(samples: Any, index: Any) -> Iterator[None]:
    """Turn what a data pipeline raises into a ``DataError`` of one line that names the sample and its image."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever a transform raises for a damaged file
        if explain_resources(error) is not None:  # the sample is not to blame
            raise
        reason = str(error).strip().split('\n')[0]
        raise DataError(
            f'training sample {index}{_image_of(samples, index)} cannot be read: {type(error).__name__}'
            f'{f": {reason}" if reason else ""}'
        ) from error


def _image_of(samples: Any, index: Any) -> str:
    try:
        return f' ({samples.get_data_info(index)["img_path"]})'
    except Exception:  # what names the error must not hide it
        return ''


class SeededBatches:
    """A batch sampler that gives :class:`SeededIndex` and can start in the middle of a pass without reading data.

    Args:
        batches: The batch sampler inside. It must give the same batches for the same epoch.
        seed: Seed of the run.

    Attributes:
        seed: As given. Resuming sets that of the checkpoint.
    """

    def __init__(self, batches: Any, seed: int) -> None:
        self.batches = batches
        self.seed = seed
        self._pass = 0
        self._skip = 0

    def start_pass(self, number: int, skip: int = 0) -> None:
        """Say which pass over the data set comes next and how many of its batches to leave out, once."""
        self._pass, self._skip = number, skip

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        number, skip, self._skip = self._pass, self._skip, 0
        rank, processes = get_rank(), get_world_size()
        position = 0
        for count, batch in enumerate(self.batches):
            if count >= skip:
                # mmengine's samplers deal the samples out in turn: this is the position in the order of all processes.
                places = (place * processes + rank for place in range(position, position + len(batch)))
                yield [
                    SeededIndex(index, (self.seed, number, place)) for index, place in zip(batch, places, strict=True)
                ]
            position += len(batch)

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or 'batches' not in vars(self):
            raise AttributeError(name)
        return getattr(self.batches, name)


def make_repeatable(loader: DataLoader, seed: int) -> DataLoader:
    """Return a copy of a data loader that reads through :class:`SeededBatches` and :class:`SeededSamples`.

    The global generators of the process that iterates are left alone. A loader that cannot be treated so, of an
    iterable data set or without automatic batches, is returned as it is.
    """
    if not can_be_repeatable(loader):
        return loader
    loader = copy.copy(loader)
    # DataLoader refuses to have these set after construction, since it has checked them by then. The new ones have the
    # length and the kind of the old; and the loader keeps the names of its sampler and batch size, which hooks read.
    vars(loader).update(
        batch_sampler=SeededBatches(loader.batch_sampler, seed),
        dataset=SeededSamples(loader.dataset),
        # Every new iterator draws a seed for its workers, from the global generator unless there is another one.
        generator=loader.generator or torch.Generator().manual_seed(seed),
    )
    return loader


def can_be_repeatable(loader: DataLoader) -> bool:
    """Tell whether :func:`make_repeatable` has anything to work on."""
    return loader.batch_sampler is not None and not isinstance(loader.dataset, IterableDataset)


def sampler_of(loader: DataLoader) -> Any:
    """Return the sampler that knows seed and epoch: the loader's own, or the one inside its batch sampler."""
    inner = getattr(loader.batch_sampler, 'sampler', None)
    return next((s for s in (loader.sampler, inner) if hasattr(s, 'set_epoch') or hasattr(s, 'seed')), loader.sampler)


class EndlessBatches:
    """Batches of a loader, pass after pass, which know their position.

    mmengine's own iterator waits two seconds between passes; here the old workers are gone before new ones start.

    Args:
        loader: As :func:`make_repeatable` returns it.

    Attributes:
        passes: Whole passes over the data set so far.
        batches: Batches given in the present pass.

    Raises:
        DataError: If a whole pass has no batch.
    """

    def __init__(self, loader: Any) -> None:
        self.passes = 0
        self.batches = 0
        self._loader = loader
        self._iterator: Iterator[Any] | None = None

    def go_to(self, passes: int, batches: int) -> None:
        """Go on at a position. The indices of the batches left out are made, no data is read."""
        self.passes, self.batches = passes, batches
        self._iterator = None

    def __iter__(self) -> 'EndlessBatches':
        return self

    def __next__(self) -> Any:
        batch = self._next()
        if batch is None:
            self.go_to(self.passes + 1, 0)
            batch = self._next()
        if batch is None:
            raise DataError(f'train_dataloader gives no batch: its data set has {len(self._loader.dataset)} sample(s)')
        self.batches += 1
        return batch

    def _next(self) -> Any:
        if self._iterator is None:
            set_epoch(self._loader, self.passes)
            self._iterator = start_pass(self._loader, self.passes, self.batches)
        try:
            return next(self._iterator, None)
        except DataError as error:
            # a worker's error comes with the traceback of its process as its text, the message at the end
            _, marker, message = str(error).strip().rpartition(f'{DataError.__name__}: ')
            if not marker:
                raise
            raise DataError(message) from error


def start_pass(loader: Any, number: int, skip: int) -> Iterator[Any]:
    """Iterate over one pass from its batch number ``skip`` on."""
    if can_be_repeatable(loader):
        loader.batch_sampler.start_pass(number, skip)
        return iter(loader)
    return itertools.islice(loader, skip, None)  # reads what it skips: nothing else is known about such a loader


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Tell the sampler, where it wants to know, which pass over the data set comes next."""
    sampler = sampler_of(loader)
    if hasattr(sampler, 'set_epoch'):
        sampler.set_epoch(epoch)
