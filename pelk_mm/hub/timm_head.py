"""The classifier of a timm model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..utils.checks import check_int

#: Pooling by timm's names, (N, C, H, W) to (N, C, 1, 1); '' for none.
POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    'avg': lambda x: x.mean((-2, -1), keepdim=True),
    'max': lambda x: x.amax((-2, -1), keepdim=True),
    'avgmax': lambda x: (x.mean((-2, -1), keepdim=True) + x.amax((-2, -1), keepdim=True)) / 2,
    '': lambda x: x,
}


class Head(nn.Module):
    """The pool's name, dropout and a linear classifier.

    Args:
        in_features: Channels of its input.
        num_classes: Rows of the classifier; 0 for none.
        global_pool: A name in ``POOLS``.
        drop_rate: Dropout before the classifier.

    Raises:
        TypeError, ValueError: An argument is outside its choices.
    """

    def __init__(self, in_features: int, num_classes: int, global_pool: str, drop_rate: float) -> None:
        super().__init__()
        self.in_features = in_features
        self.drop = nn.Dropout(drop_rate)
        self.reset(num_classes, global_pool)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(..., in_features) to (..., num_classes)."""
        x = self.drop(x)
        return x if pre_logits else self.fc(x)

    def reset(
        self,
        num_classes: int,
        global_pool: str | None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Replace the classifier by a fresh one, and the pool unless it is None."""
        check_int('num_classes', num_classes, 0)
        if global_pool is not None:
            if global_pool not in POOLS:
                raise ValueError(f'global_pool must be one of {", ".join(map(repr, POOLS))}, but got {global_pool!r}')
            self.global_pool = global_pool
        self.fc: nn.Module = nn.Identity()
        if num_classes:
            self.fc = nn.Linear(self.in_features, num_classes, device=device, dtype=dtype)
            nn.init.trunc_normal_(self.fc.weight, std=0.02)
            nn.init.zeros_(self.fc.bias)
        self.fc.train(self.training)
