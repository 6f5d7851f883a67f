"""What a checkpoint needs beyond mmengine's to go on exactly: random states, place in the data, gradients held back."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank
from torch import nn

from ...checkpoints.loading import unwrap
from ...checkpoints.schema import (
    MismatchError,
    anything,
    mapping,
    number,
    optional,
    record,
    sequence,
    tensor,
    text,
    truth,
)
from ...utils.errors import CheckpointError
from .loops import ExactResume
from .random_state import get_random_state
from .repeatable_data import sampler_of
from .run_settings import describe_run

KEY = 'run_state'

_WHOLE = number(whole=True)
_COUNT = number(0, whole=True)


def _words(value: Any, path: str) -> None:
    """The 624 words of a Mersenne twister and the place in them. numpy would read at any place that it is given."""
    tensor(torch.int64, (625,))(value, path)
    if value.min() < 0 or value.max() >= 1 << 32 or value[-1] > 624:
        raise MismatchError(path, 'words of 32 bits and a place of at most 624', 'beyond that')


_RANDOM = record(
    {
        'python': _words,
        'python_gauss': optional(number()),
        'numpy': _words,
        'numpy_gauss': optional(number()),
        'torch': tensor(torch.uint8, tuple(torch.get_rng_state().shape)),
    },
    {'cuda': tensor(torch.uint8)},
)
_SETTINGS = record(
    {
        'loop': text,
        'processes': number(1, whole=True),
        'groups': sequence(sequence(text)),
        'schedulers': sequence(text),
    },
    {'config': mapping(anything), 'environment': mapping(anything), 'optimizers': mapping(text)},
)
# What `collect_run_state` returns, for `checkpoints.schema.check`; the checkpoint hook adds the files it wrote.
RULE = record(
    {
        'position': optional(sequence(_COUNT, 2)),
        'data_seed': optional(_WHOLE),
        'sampler_seed': optional(_WHOLE),
        'validated': truth,
        'processes': sequence(record({'random': _RANDOM}, {'buffers': mapping(tensor())})),
        'settings': optional(_SETTINGS),
    },
    {'gradients': mapping(tensor()), 'files': mapping(sequence(_COUNT))},
)


def collect_run_state(runner: Any, meta: dict) -> dict[str, Any]:
    """Collect the state of a run from all its processes; every process must call this.

    Args:
        runner: The runner, in the middle of training.
        meta: 'epoch' and 'iter' of the checkpoint.

    Returns:
        A dictionary of tensors, numbers, strings and lists:

        - 'position': complete passes and batches of the present one, or None in a loop that does not know;
        - 'data_seed', 'sampler_seed': what orders and augments the samples;
        - 'validated': whether the validation that is due after this step is done;
        - 'processes': a list by rank of 'random', as ``get_random_state`` returns it, and 'buffers', those of the
          model that differ from rank 0's, as the statistics of BatchNorm do;
        - 'gradients': by parameter name, what gradient accumulation holds back; not with several processes;
        - 'settings': as ``describe_run`` returns them, or None from another runner than ours.
    """
    loop = runner.train_loop
    exact = isinstance(loop, ExactResume)
    model = unwrap(runner.model)
    sampler_seed = getattr(sampler_of(loop.dataloader), 'seed', None) if exact else None
    validating = exact and loop.random_state is not None
    state: dict[str, Any] = {
        'position': list(loop.position_after(meta['epoch'])) if exact else None,
        'data_seed': getattr(loop.dataloader.batch_sampler, 'seed', None) if exact else None,
        'sampler_seed': sampler_seed if isinstance(sampler_seed, int) else None,
        'validated': validating,
        'settings': describe_run(runner) if hasattr(runner, 'settings') else None,
    }
    state_here = {'random': loop.random_state if validating else get_random_state(), 'digest': _digest(model)}
    processes = all_gather_object(state_here)
    if len({process.pop('digest') for process in processes}) > 1:
        all_buffers = all_gather_object({name: buffer.cpu() for name, buffer in model.named_buffers()})
        for process, buffers in zip(processes, all_buffers, strict=True):
            process['buffers'] = {
                name: buffer for name, buffer in buffers.items() if not torch.equal(buffer, all_buffers[0][name])
            }
    state['processes'] = processes
    if len(processes) == 1 and getattr(runner.optim_wrapper, '_accumulative_counts', 1) > 1:
        state['gradients'] = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
    return state


def demand_training_state(checkpoint: dict, source: str) -> None:
    """Demand what mmengine resumes from.

    Args:
        checkpoint: As :func:`~pelk_mm.checkpoints.reading.read_checkpoint` returns it.
        source: Its name, for the message.

    Raises:
        CheckpointError: Naming what is not there.
    """
    meta = checkpoint.get('meta', {})
    absent = [key for key in ('epoch', 'iter') if key not in meta]
    absent += [key for key in ('message_hub', 'optimizer') if key not in checkpoint]
    if absent:
        raise CheckpointError(
            f'checkpoint {source} cannot be resumed: it lacks {", ".join(absent)}. '
            'To start anew from its weights use --cfg-options load_from=PATH'
        )


def resume_position(checkpoint: dict) -> dict[str, Any]:
    """Pick what a training loop needs to go on from a checkpoint, for this process.

    Returns:
        'position', 'data_seed', 'sampler_seed', 'validated' and 'random' (None where the checkpoint holds none).
    """
    state = checkpoint['meta'].get(KEY)
    if state is None:  # written by another runner, which takes validation as done
        return {'position': None, 'data_seed': None, 'sampler_seed': None, 'validated': True, 'random': None}
    processes = state['processes']
    random = processes[get_rank()]['random'] if get_rank() < len(processes) else None
    return {name: state[name] for name in ('position', 'data_seed', 'sampler_seed', 'validated')} | {'random': random}


def restore_model_state(state: dict[str, Any], model: nn.Module, source: str) -> None:
    """Put back this process's own buffers and the gradients held back, after the weights have been loaded.

    Args:
        state: Of the run.
        model: Changed in place, possibly inside a distributed wrapper.
        source: The checkpoint's name, for messages.

    Raises:
        CheckpointError: If a buffer or a gradient is of no such part of the model, or of another shape.
    """
    model = unwrap(model)
    if get_rank() < len(state['processes']):
        buffers = dict(model.named_buffers())
        for name, value in state['processes'][get_rank()].get('buffers', {}).items():
            _part(name, value, buffers, source).copy_(value)
    parameters = dict(model.named_parameters())
    for name, value in state.get('gradients', {}).items():
        parameter = _part(name, value, parameters, source)
        parameter.grad = value.to(parameter)


def _part(name: str, value: torch.Tensor, parts: Mapping[str, torch.Tensor], source: str) -> torch.Tensor:
    if name not in parts or parts[name].shape != value.shape:
        there = f'of shape {tuple(parts[name].shape)}' if name in parts else 'absent'
        raise CheckpointError(
            f'checkpoint {source} is damaged or was changed: the state of its run holds {name} of shape '
            f'{tuple(value.shape)}, which is {there} in the model'
        )
    return parts[name]


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, buffer in model.named_buffers():
        digest.update(name.encode())
        digest.update(buffer.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
