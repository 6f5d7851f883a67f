"""What the masks of dynamic sparsity cost a training iteration."""

from __future__ import annotations

import torch
from torch import nn

from ...benchmarks.harness import Timing, Variant, measure
from ...benchmarks.machine import benchmark_settings, check_device
from ...models import PeLK
from ...sparsity.masked import MaskedWeights
from ...sparsity.rules import local_generator, random_mask
from ...sparsity.weights import maskable_weights


def benchmark_sparsity(
    *,
    arch: str = 'tiny',
    size: int = 224,
    batch: int = 8,
    sparsity: float = 0.4,
    device: torch.device | str = 'cpu',
    repeats: int = 5,
) -> list[Timing]:
    """Time an iteration of a PeLK classifier with AdamW, beside what the hook does after it when no mask moves.

    Returns:
        'iteration' (forward, backward and optimizer step, no masks) and 'masking' (all maskable weights multiplied).

    Raises:
        ValueError: ``sparsity`` outside [0, 1).
        RuntimeError: One of them fails, for want of memory above all.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f'sparsity must be in [0, 1), but got {sparsity}')
    device = check_device(device)
    backbone = PeLK(arch)
    model = nn.ModuleDict({'backbone': backbone, 'head': nn.Linear(backbone.channels[-1], 1000)}).to(device)
    weights = maskable_weights(model)
    masks = {
        name: random_mask(w.shape, round((1 - sparsity) * w.numel()), local_generator(0, 0, name)).to(device)
        for name, w in weights.items()
    }
    masked = MaskedWeights(weights, [], masks)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator).to(device)
    labels = torch.randint(1000, (batch,), generator=generator).to(device)

    def iterate() -> None:
        loss = nn.functional.cross_entropy(model['head'](backbone(images)[0]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    variants = [Variant('iteration', iterate), Variant('masking', masked.apply)]
    with benchmark_settings(device):
        result = measure(variants, device=device, repeats=repeats)
    if result.skipped:
        raise RuntimeError('; '.join(f'{name}: {reason}' for name, reason in result.skipped.items()))
    return result.timings
