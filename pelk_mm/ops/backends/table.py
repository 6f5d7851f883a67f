"""The table of back-ends. The file of a back-end registers it here; nothing here knows any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..segments import Segments
from . import opaque

#: (input, weight (C, 1, r, c), row segments, column segments, bias (C,) or (C, H, W) or None[, tables]) to output.
Forward = Callable[..., Tensor]
#: (grad, input, weight, row segments, column segments, whether the input's gradient is needed, whether the weight's[,
#: tables]) to both gradients, None where not needed.
Backward = Callable[..., tuple[Tensor | None, Tensor | None]]
#: (row segments, column segments, device) to what ``forward`` and ``backward`` then take last.
Tables = Callable[[Segments, Segments, torch.device], Tensor]


@dataclass(frozen=True)
class Problem:
    """What a back-end needs to know of a call to say whether it can serve it."""

    input: Tensor
    rows: Segments
    columns: Segments
    needs_grad: bool
    has_bias: bool = False

    @property
    def kernel_size(self) -> tuple[int, int]:
        """(kh, kw)."""
        return sum(self.rows), sum(self.columns)

    @property
    def reach(self) -> tuple[int, int]:
        """Height and width of the part of the kernel that does not always lie on the padding."""
        (kh, kw), (height, width) = self.kernel_size, self.input.shape[2:]
        # arithmetic alone, not `reachable`: torch.compile may leave the sizes open
        return min(kh, 2 * height - 1), min(kw, 2 * width - 1)


@dataclass(frozen=True)
class Backend:
    """One way to compute a depthwise convolution.

    Attributes:
        name: What callers say.
        forward: Computes the output.
        backward: Computes the gradients of ``forward``; None where torch's autograd sees into it.
        refusal: The reason why a problem cannot be served, or None where it can.
        tables: Makes, or looks up, constants of a kernel on a device; None where there are none. An op must not keep
            tensors that it allocates, which may lie in a CUDA graph's memory: these are its inputs.
    """

    name: str
    forward: Forward
    backward: Backward | None
    refusal: Callable[[Problem], str | None]
    tables: Tables | None = None

    def run(self, input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None) -> Tensor:
        """Serve a call; arguments as ``forward``. Gradients are ``backward``'s, else those that autograd finds."""
        if self.backward is None:
            return self.forward(input, weight, rows, columns, bias)
        return opaque.run(self, input, weight, rows, columns, bias)

    def can_run(self, problem: Problem, raise_error: bool = False) -> bool:
        """Whether this back-end serves ``problem``; with ``raise_error`` a refusal is a RuntimeError."""
        reason = self.refusal(problem)
        if reason is not None and raise_error:
            others = [name for name, backend in BACKENDS.items() if backend.refusal(problem) is None]
            raise RuntimeError(f"backend='{self.name}' cannot run here: {reason}; these can: {', '.join(others)}")
        return reason is None


#: All back-ends by name, in the order in which they registered.
BACKENDS: dict[str, Backend] = {}


def register(
    name: str,
    forward: Forward,
    backward: Backward | None,
    refusal: Callable[[Problem], str | None],
    tables: Tables | None = None,
) -> None:
    """Add a back-end to the table; arguments as the attributes of :class:`Backend`.

    Raises:
        ValueError: The name is taken.
    """
    if name in BACKENDS:
        raise ValueError(f'name must be new, but a back-end {name!r} is registered already')
    BACKENDS[name] = Backend(name, forward, backward, refusal, tables)
