"""Dynamic sparse training as tensor logic: how many weights each layer keeps, which, and how they move.

From SLaK (arXiv 2207.03620, section 4), whose settings PeLK takes over (arXiv 2403.07589, section 4.4); what is ours
instead is decision D5 of ``docs/paper/sparse_training.md``. A mask is a bool tensor, True where a weight is kept. Its
elements need not be single weights: scores and magnitudes may be summed over whole filters, and a mask that broadcasts
over its weight then prunes filters.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def local_generator(seed: int, step: int, name: str) -> torch.Generator:
    """Give the CPU generator of one layer at one step.

    It depends on its arguments alone, so every process draws the same and a resumed run goes on as if never stopped,
    with no generator state to keep. The global generators are not touched.
    """
    digest = hashlib.blake2b(f'{seed}/{step}/{name}'.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, 'big') >> 1)


def cosine_rate(step: int, total: int, first: float, last: float) -> float:
    """Half a cosine from ``first`` at step 0 to ``last`` at step ``total`` and after it."""
    return last + (first - last) * (1 + math.cos(math.pi * min(step / total, 1.0))) / 2


def snip_counts(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, int]:
    """Count how many elements each layer keeps under one threshold over all layers (SNIP, arXiv 1810.02340).

    Args:
        scores: For each layer the scores of its elements, any shape, finite and not negative: ``|w * dL/dw|``.
        sparsity: Share of all elements to drop, in [0, 1).

    Returns:
        For each layer the number of its elements among the ``round((1 - sparsity) * N)`` highest scores of all N.
        Elements tied at the threshold are shared out in proportion to how many each layer has.
    """
    flat = torch.cat([score.flatten() for score in scores.values()])
    keep = round((1 - sparsity) * flat.numel())
    if keep == 0:
        return dict.fromkeys(scores, 0)
    threshold = flat.kthvalue(flat.numel() - keep + 1).values
    above = [int((score > threshold).sum()) for score in scores.values()]
    tied = [int((score == threshold).sum()) for score in scores.values()]
    shares = _share_out(keep - sum(above), tied)
    return {name: high + share for name, high, share in zip(scores, above, shares, strict=True)}


def random_mask(shape: Sequence[int], keep: int, generator: torch.Generator) -> Tensor:
    """Draw a mask of ``shape`` on the CPU with exactly ``keep`` elements kept."""
    return grow(torch.zeros(tuple(shape), dtype=torch.bool), keep, generator)


def prune(magnitude: Tensor, mask: Tensor, count: int) -> Tensor:
    """Drop the ``count`` kept elements of smallest magnitude.

    Args:
        magnitude: Absolute weights, in the shape of ``mask``. NaN counts as infinite.
        mask: bool; not changed.
        count: At most the number of elements kept.

    Returns:
        The new mask. Among equal magnitudes the first in memory order go, on every device.
    """
    if count == 0:
        return mask.clone()
    kept = mask.flatten().nonzero().squeeze(1)
    values = magnitude.flatten()[kept].nan_to_num(nan=math.inf, posinf=math.inf)
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    threshold = values.kthvalue(count).values
    dropped = values < threshold
    tied = (values == threshold).nonzero().squeeze(1)
    dropped[tied[: count - int(dropped.sum())]] = True
    pruned = mask.flatten().clone()
    pruned[kept[dropped]] = False
    return pruned.view_as(mask)


def grow(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Keep ``count`` more elements, drawn uniformly from all that the mask drops.

    Args:
        mask: bool, any device; not changed.
        count: At most the number of elements dropped.
        generator: On the CPU.

    Returns:
        The new mask.
    """
    candidates = (~mask).flatten().nonzero().squeeze(1)
    chosen = torch.randperm(len(candidates), generator=generator)[:count]
    grown = mask.flatten().clone()
    grown[candidates[chosen.to(mask.device)]] = True
    return grown.view_as(mask)


def _share_out(amount: int, weights: Sequence[int]) -> list[int]:
    """Split an integer in proportion to integer weights, exactly."""
    total, done, seen, shares = sum(weights), 0, 0, []
    for weight in weights:
        seen += weight
        reached = amount * seen // total
        shares.append(reached - done)
        done = reached
    return shares
