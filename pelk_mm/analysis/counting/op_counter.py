"""Multiply-adds of every operation that a forward pass meets, by module, without computing anything.

mmengine's FlopAnalyzer traces with ``torch.jit``, which neither runs on the meta device nor through the argument checks
of our ops. So its formulas are applied here to what torch dispatches instead: the counts are mmengine's (tests compare
them), the tensors have no memory. Our own ops report themselves, whatever back-end would have run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ...ops.observe import Call, inside, observe

aten = torch.ops.aten


class OpCounter(TorchDispatchMode):
    """While active around a model's forward pass, counts its multiply-adds.

    Args:
        model: The model; on the meta device nothing is computed.
        auxiliary_kernels: Weights of depthwise kernels to be counted as 'auxiliary' instead of 'depthwise_conv2d'.

    Attributes:
        counts: For each module, by its name in ``model``, the multiply-adds by operation of what ran in its own
            ``forward``, children apart. Operations are 'conv', 'linear', 'matmul', 'norm', 'resize' and 'pool' (all by
            mmengine's formulas), and of this package 'depthwise_conv2d', 'auxiliary' (dense kh x kw taps a pixel,
            padding included), 'visible_sum' (its two matrix products, once whatever the batch) and 'shiftwise_conv2d'
            (as its authors count: the N x N filters on their larger map; shifts are additions and cost nothing),
            'window_conv2d' and 'neighbourhood_gather' (for each value those that are summed: of a window, of K x K).
    """

    def __init__(self, model: nn.Module, auxiliary_kernels: Collection[Tensor] = ()) -> None:
        super().__init__()
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._model = model
        self._auxiliary = {id(weight) for weight in auxiliary_kernels}
        self._scope = ['']
        self._stack = ExitStack()

    def __enter__(self) -> OpCounter:
        with ExitStack() as stack:
            for name, module in self._model.named_modules():
                push = module.register_forward_pre_hook(lambda *_, name=name: self._scope.append(name))
                pop = module.register_forward_hook(lambda *_: self._leave(), always_call=True)
                stack.callback(push.remove)
                stack.callback(pop.remove)
            stack.enter_context(observe(self._count_call))
            super().__enter__()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        self._stack.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and count it, unless it is part of a call that our ops report themselves."""
        output = func(*args, **(kwargs or {}))
        counted = None if inside() else FORMULAS.get(func.overloadpacket)
        if counted is not None:
            operation, formula = counted
            self._record(operation, formula(args, kwargs or {}, output))
        return output

    def _leave(self) -> None:
        self._scope.pop()

    def _record(self, operation: str, macs: int) -> None:
        self.counts[self._scope[-1]][operation] += macs

    def _count_call(self, call: Call) -> None:
        operation = call.operation
        if operation == 'visible_sum':
            channels, kh, kw = call.weight.shape
            height, width = call.shape[1:]
            macs = channels * kw * height * (kh + width)
        elif operation == 'shiftwise_conv2d':
            height, width = (size + call.weight.shape[-1] - 1 for size in call.shape[2:])
            macs = call.shape[0] * call.weight.numel() * height * width
        elif operation in ('window_conv2d', 'neighbourhood_gather'):
            macs = depthwise_macs(call.shape, call.kernel_size)
        else:
            operation = 'auxiliary' if id(call.weight) in self._auxiliary else 'depthwise_conv2d'
            macs = depthwise_macs(call.shape, call.kernel_size)
        self._record(operation, macs)


def depthwise_macs(shape: Sequence[int], kernel_size: tuple[int, int]) -> int:
    """Multiply-adds of a depthwise kernel (kh, kw) on (N, C, H, W): all its taps at every pixel, padding included."""
    return prod(shape) * prod(kernel_size)


Formula = Callable[[tuple[Any, ...], Mapping[str, Any], Any], int]


def _conv(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> int:
    pixels = args[0] if args[6] else output  # a transposed convolution meets each input pixel with every tap
    return output.shape[0] * args[1].numel() * prod(pixels.shape[2:])


def _product(first: int) -> Formula:
    """Rows times inner times columns of the matrices at ``first`` and ``first + 1``, stacked or not."""
    return lambda args, kwargs, output: args[first].numel() * args[first + 1].shape[-1]


def _linear(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> int:
    return args[0].numel() * args[1].shape[0]


def _norm(affine: int) -> Formula:
    """LayerNorm and GroupNorm: 5 an element, 4 without weights."""
    return lambda args, kwargs, output: args[0].numel() * (4 if args[affine] is None else 5)


def _batch_norm(training: int | None) -> Formula:
    """BatchNorm: 2 an element, 1 without weights; like the other norms where it takes the batch's statistics."""

    def formula(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> int:
        by_batch = training is not None and bool(args[training])
        return args[0].numel() * ((4 if by_batch else 1) + (args[1] is not None))

    return formula


def _pool(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> int:
    return args[0].numel()


def _mean(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> int:
    """A mean over the pixels of images: what torch makes of an adaptive pooling to 1 x 1, which mmengine counts."""
    dims = args[1] if len(args) > 1 else None
    over_pixels = args[0].ndim == 4 and sorted(dim % 4 for dim in dims or ()) == [2, 3]
    return args[0].numel() if over_pixels else 0


def _resize(cost: int) -> Formula:
    return lambda args, kwargs, output: cost * output.numel()


#: What torch dispatches: the name it is counted by, and how.
FORMULAS: dict[Any, tuple[str, Formula]] = {
    aten.convolution: ('conv', _conv),
    aten.addmm: ('linear', _product(1)),
    aten.mm: ('linear', _product(0)),
    aten.linear: ('linear', _linear),
    aten.bmm: ('matmul', _product(0)),
    aten.baddbmm: ('matmul', _product(1)),
    aten.native_layer_norm: ('norm', _norm(2)),
    aten.native_group_norm: ('norm', _norm(1)),
    aten.native_batch_norm: ('norm', _batch_norm(5)),
    aten._native_batch_norm_legit: ('norm', _batch_norm(5)),
    aten._native_batch_norm_legit_no_training: ('norm', _batch_norm(None)),
    aten.cudnn_batch_norm: ('norm', _batch_norm(5)),
    aten.upsample_nearest2d: ('resize', _resize(1)),
    aten.upsample_bilinear2d: ('resize', _resize(4)),
    aten.grid_sampler_2d: ('resize', _resize(4)),
    aten._adaptive_avg_pool2d: ('pool', _pool),
    aten.mean: ('pool', _mean),
}
