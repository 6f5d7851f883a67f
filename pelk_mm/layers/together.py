"""Several outputs as one, so that those which nobody reads leave no parameter without a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def keep_together(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the outputs unchanged; in the backward pass, one that was not read has a gradient of zeros.

    ``DistributedDataParallel`` waits for a gradient of every parameter. A head that reads some of a backbone's outputs
    would leave the norms of the others without one, and the second iteration would stop.

    Args:
        outputs: Of any shapes. They are returned as they are where no gradient is recorded, or where there is one.
    """
    if len(outputs) < 2 or not torch.is_grad_enabled() or not any(output.requires_grad for output in outputs):
        return outputs
    return _Together.apply(*outputs)  # type: ignore[no-any-return]


class _Together(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients  # PyTorch has put zeros where there was none
