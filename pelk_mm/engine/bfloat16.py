"""Mixed precision without loss scaling, on CPUs too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from ..registry import OPTIM_WRAPPERS, register


@register(OPTIM_WRAPPERS)
class BFloat16OptimWrapper(OptimWrapper):
    """mmengine's ``OptimWrapper`` with the forward pass under bfloat16 autocast.

    bfloat16 has the range of float32, so nothing is scaled. Unlike ``AmpOptimWrapper`` it also runs on a CPU, where it
    is faster than float32 if the processor has bfloat16 instructions (``avx512_bf16`` or ``amx_bf16`` in its flags).
    Takes the arguments of ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass, gradient accumulation as in ``OptimWrapper``."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
