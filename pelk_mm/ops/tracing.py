"""What torch is doing with this call: compiling, exporting, recording, transforming, casting."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..utils import compat

#: Tensors that no subclass's dispatch is behind.
PLAIN_TENSORS = (Tensor, torch.nn.Parameter)


def compiling() -> bool:
    """Whether torch.compile or torch.export is taking a graph, in which a log line or a kept tensor has no place."""
    return compat.is_compiling()


def exporting() -> bool:
    """Whether a graph is being taken that has to run without this package: torch.export, ONNX, torch.jit.trace."""
    # the flag itself (not in torch 2.5): within torch.compile, torch 2.11 answers True to the public is_exporting()
    return torch.jit.is_tracing() or getattr(torch.compiler, '_is_exporting_flag', False)


def is_fixed(size: int) -> bool:
    """Whether a size of the map is a number: a graph for every size keeps the whole kernel."""
    if exporting():
        return False
    if not compiling():
        return True
    from torch.fx.experimental import symbolic_shapes  # needs sympy

    has_static_value = getattr(symbolic_shapes, 'has_static_value', None)  # not in torch 2.5
    return has_static_value is not None and has_static_value(size)


def being_recorded(x: Tensor) -> bool:
    """Whether a graph is being taken, in which a kept tensor would be a constant, or a transform is active."""
    return compiling() or torch.jit.is_tracing() or transform_refusal() is not None or capturing()


def is_watched(*tensors: Tensor | None) -> bool:
    """Whether torch has to see a call as one op: for a graph, transform, dispatch mode, subclass or meta tensor.

    Raises:
        RuntimeError: It would have to, but torch is too old for such an op, and would do something else.
    """
    if not compat.HAS_LIBRARY:
        if any(tensor is not None and compat.is_vector_of_cotangents(tensor) for tensor in tensors):
            raise RuntimeError(
                f"is_grads_batched=True needs torch 2.5 here, but found {torch.__version__}: name backend='dense', or "
                'take one gradient at a time'
            )
        return False
    return (
        compiling()
        or torch.jit.is_tracing()
        or transform_refusal() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or not all(tensor is None or _is_plain(tensor) for tensor in tensors)
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is what a kernel can read: no subclass, no vector of cotangents (``is_grads_batched``)."""
    return type(tensor) in PLAIN_TENSORS and not tensor.is_meta and not compat.is_vector_of_cotangents(tensor)


def capturing() -> bool:
    """Whether a CUDA graph is being captured, in which nothing may be tried, copied from the host or kept."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def transform_refusal() -> str | None:
    """Why the package's op cannot serve a call under the transform that is active now, or None where it can.

    Torch has no forward-mode rule for it, and would drop the tangents without a word.
    """
    if compiling():
        return None
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return 'torch.func transforms (vmap, grad, jvp, ...) cannot pass through its op'
    if forward_ad._current_level >= 0:
        return 'its op has no forward-mode derivative (torch.autograd.forward_ad)'
    return None


def autocast_active(kind: str) -> bool:
    """Whether autocast is active for devices of ``kind``; torch raises for 'meta', which has none."""
    # `torch.amp.is_autocast_available` would answer for every kind, but torch.compile cannot trace it
    return kind != 'meta' and compat.is_autocast_enabled(kind)
