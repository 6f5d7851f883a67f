"""Inputs that are never in the cache when they are read: copies handed out in turn."""

from __future__ import annotations

import torch
from torch import Tensor

# Kernels may read faster, or be compiled anew, where the first byte is aligned: every copy is as aligned as the first.
_ALIGNMENT = 256


class Rotation:
    """Copies of one image, handed out in turn: between two uses of one, more than a whole cache of others is read.

    Args:
        image: (N, C, H, W); its values are copied.
        cache_bytes: What the copies have to exceed, the current one left out; 0 for one copy, always the same.
        channels_last: Memory layout of the copies.
        requires_grad: Whether each copy is a leaf that takes a gradient.
    """

    def __init__(
        self, image: Tensor, cache_bytes: int, *, channels_last: bool = False, requires_grad: bool = False
    ) -> None:
        source = image.detach()
        source = source.permute(0, 2, 3, 1) if channels_last else source
        step = -(-image.numel() * image.element_size() // _ALIGNMENT) * _ALIGNMENT // image.element_size()
        count = 1 if cache_bytes == 0 else cache_bytes // max(1, image.numel() * image.element_size()) + 2
        memory = torch.empty(count, step, dtype=image.dtype, device=image.device)
        memory[:, : image.numel()] = source.reshape(1, -1)
        copies = [copy.view(source.shape) for copy in memory[:, : image.numel()].unbind()]
        self._copies = [
            (copy.permute(0, 3, 1, 2) if channels_last else copy).requires_grad_(requires_grad) for copy in copies
        ]
        self._used = 0

    def __len__(self) -> int:
        return len(self._copies)

    def next(self) -> Tensor:
        """The copy that has not been used for longest."""
        self._used += 1
        return self._copies[(self._used - 1) % len(self._copies)]
