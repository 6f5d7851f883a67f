"""SNIP scores on the batch that the first step is about to train on, without leaving a trace in the run."""

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..utils.errors import ConfigError

_SMALLER = 2.0**-8


def snip_scores(
    model: nn.Module, data_batch: Any, optim_wrapper: OptimWrapper, weights: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Score every weight by ``|w * dL/dw|``, the gradient averaged over all processes.

    L is the loss that the step itself is going to see: the model's own, in training mode, behind its data preprocessor
    (mixup included) and under the optimizer wrapper's precision. Buffers (BatchNorm statistics), the gradients of the
    parameters and the random states are as before when this returns; ``data_batch`` is not changed.

    Args:
        model: mmengine's ``BaseModel``, not wrapped. In every process it holds the same weights.
        data_batch: This process's own batch, as the dataloader gives it.
        optim_wrapper: Gives the autocast. Where it has a ``loss_scaler``, the loss is scaled like it, and less where
            gradients overflow.
        weights: Trainable parameters by name.

    Returns:
        float32 scores (float64 for such weights) in each weight's shape, the same in every process.

    Raises:
        ConfigError: The model is no ``BaseModel``, or the gradients are not finite.
    """
    if not (hasattr(model, 'data_preprocessor') and hasattr(model, 'parse_losses')):
        raise ConfigError(
            f'the sparsity hook needs an mmengine BaseModel to compute a loss, but got {type(model).__name__}'
        )
    scaler = getattr(optim_wrapper, 'loss_scaler', None)
    scale = float(scaler.get_scale()) if scaler is not None else 1.0
    while True:
        with _nothing_changed(model):
            gradients, loss = _gradients(model, copy.deepcopy(data_batch), optim_wrapper, weights, scale)
        finite = torch.tensor(float(all(bool(gradient.isfinite().all()) for gradient in gradients)))
        all_reduce(finite, 'min')  # the forward pass may synchronise processes: all of them repeat it, or none
        if finite:
            break
        if scale <= 1:
            raise ConfigError(
                f'the gradients of the first batch are not finite (loss {loss:g}): the sparsity hook cannot rank the '
                'weights by them'
            )
        scale = max(scale * _SMALLER, 1.0)
    scores = {}
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        gradient = gradient.to(torch.promote_types(weight.dtype, torch.float32)).contiguous()
        all_reduce(gradient, 'mean')
        scores[name] = (weight.detach() * gradient / scale).abs()
    return scores


def _gradients(
    model: Any, data_batch: Any, optim_wrapper: OptimWrapper, weights: Mapping[str, nn.Parameter], scale: float
) -> tuple[list[Tensor], float]:
    """Gradients of ``scale * loss``, zeros where a weight takes no part; and the loss."""
    with torch.enable_grad():
        with optim_wrapper.optim_context(model):
            data = model.data_preprocessor(data_batch, True)
            losses = model(**data, mode='loss') if isinstance(data, dict) else model(*data, mode='loss')
        loss, _ = model.parse_losses(losses)
        # Unlike backward(), this neither touches .grad nor wakes the hooks of a distributed wrapper.
        gradients = torch.autograd.grad(loss * scale, list(weights.values()), allow_unused=True)
    return [
        torch.zeros_like(weight) if gradient is None else gradient
        for weight, gradient in zip(weights.values(), gradients, strict=True)
    ], float(loss.detach())


@contextmanager
def _nothing_changed(model: nn.Module) -> Iterator[None]:
    """Put a model's buffers and the random states back at the end."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)
