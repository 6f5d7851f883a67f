"""What failed in a dry pass, in one line: where, why, and for the common mistakes what to change."""

import re
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..utils.compat import OutOfMemoryError

#: By the name of a child of the model, in the order they ran: the shapes of the tensors that it has put out.
Shapes = dict[str, list[tuple[int, ...]]]

_END = ' (--no-dry-run trains without this pass, PELK_MM_LOG=debug shows the traceback)'


def describe_sample_error(error: Exception, index: int | None) -> str:
    """Describe what failed while samples were read.

    Args:
        error: What was raised.
        index: Of the sample; None if all were read, and putting them together failed.
    """
    if index is None:
        advice = '' if 'equal size' not in str(error) else ': let the pipeline bring all images to one size'
        return f'dry pass: train_dataloader.collate_fn: {_reason(error)}{advice}{_END}'
    transform = _innermost(error, lambda owner: hasattr(type(owner), 'transform'))
    inside = f', {type(transform).__name__}' if transform is not None else ''
    return f'dry pass: sample {index} of train_dataloader{inside}: {_reason(error)}{_END}'


def describe_model_error(error: Exception, model: nn.Module, shapes: Shapes) -> str:
    """Describe what failed in the training step.

    Args:
        error: What was raised.
        model: The model that ran.
        shapes: What its children had put out by then.
    """
    names = {module: name for name, module in model.named_modules()}
    module = _innermost(error, lambda owner: isinstance(owner, nn.Module) and owner in names) or model
    words = names[module].split('.')
    path = [model.get_submodule('.'.join(words[:depth])) for depth in range(1, len(words) + 1)]
    part = next((part for part in path if not isinstance(part, nn.ModuleList)), model)
    name, inside = names[part], names[module].removeprefix(names[part]).lstrip('.')
    place = f'{name} ({type(part).__name__})' if name else type(model).__name__
    place += f', {inside} ({type(module).__name__})' if inside else ''
    advice = _advise(
        error, module, name or 'the head', part, {name: output for name, output in shapes.items() if output}
    )
    return f'dry pass: {place}: {_reason(error)}{advice and f": {advice}"}{_END}'


def _advise(error: Exception, module: nn.Module, name: str, part: nn.Module, shapes: Shapes) -> str:
    """Say what to change; empty where the error has to speak for itself."""
    text = str(error)
    if isinstance(error, OutOfMemoryError):
        free, total = torch.cuda.mem_get_info()
        return f'one or two samples do not fit into this GPU, which has {total / 1e9:.1f} GB, {free / 1e9:.1f} GB free'
    if 'device-side assert' in text:
        return 'a label beyond num_classes is the usual cause; without a GPU (CUDA_VISIBLE_DEVICES=) the line names it'
    if 'Expected more than 1 value per channel' in text:
        return 'BatchNorm needs two values of a channel: set train_dataloader.batch_size to 2 or more'
    weights = getattr(module, 'class_weight', None)
    if 'weight tensor should be defined' in text and weights is not None:
        return f'class_weight has {len(weights)} entries, but needs one for each class that the head tells apart'
    if re.search(r"no attribute '_?(gt_\w+|bboxes|labels|masks)'", text):
        return 'does train_dataloader.dataset.pipeline load the annotations?'
    if match := re.search(r'Target (-?\d+) is out of bounds', text):
        return f'a label is {match[1]}, which num_classes of {name} does not cover'
    if not shapes:
        return ''
    source, outputs = list(shapes.items())[-1]
    put_out = f'{source} puts out {", ".join("x".join(map(str, shape)) for shape in outputs)}'
    if match := re.search(r'mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x', text):
        if len(outputs[-1]) > 2:
            return f'{put_out}, maps instead of vectors: set gap_before_final_norm=True, or add a pooling neck'
        return f'{put_out}; set in_channels={match[1]} in {name}, where it is {match[2]}'
    if any(len(shape) == 2 for shape in outputs):
        return f'{put_out}, vectors instead of maps: set gap_before_final_norm=False in the backbone'
    wanted = getattr(part, 'in_index', None)
    wanted = [wanted] if isinstance(wanted, int) else wanted or []
    if isinstance(error, IndexError) and any(not -len(outputs) <= index < len(outputs) for index in wanted):
        return f'{put_out}, {len(outputs)} in all, but in_index of {name} is {wanted}: do out_indices fit?'
    channels = getattr(part, 'in_channels', None)
    if isinstance(error, AssertionError) and isinstance(channels, list | tuple) and len(channels) != len(outputs):
        return f'{put_out}, but in_channels of {name} is {list(channels)}: one for each output of {source}'
    if match := re.search(r'to have (\d+) channels, but got (\d+) channels', text):
        return f'{put_out}; in_channels of {name} says {match[1]} where {match[2]} channels come'
    return ''


def _innermost(error: Exception, fits: Callable[[Any], bool]) -> Any:
    """Find the object whose method raised: the deepest ``self`` of the traceback that fits."""
    owners = [frame.f_locals.get('self') for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((owner for owner in reversed(owners) if owner is not None and fits(owner)), None)


def _reason(error: Exception) -> str:
    # a bare assertion says what failed by its source
    text = str(error).strip().split('\n')[0] or traceback.extract_tb(error.__traceback__)[-1].line
    return f'{type(error).__name__}: {text}'
