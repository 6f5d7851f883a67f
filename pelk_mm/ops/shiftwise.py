"""ShiftwiseConv: a large kernel as shifted groups of small convolutions (Li et al., arXiv 2401.12736).

A channel has g = ceil(M / N) filters of N x N, its groups. Each of R edges shuffles the groups over g positions, N
pixels apart, along the rows and along the columns, and keeps one of them in the centre. A sum of shifted N x N
convolutions is one convolution with the filters laid side by side, so there are two forms, equal but for rounding:
``groups``, as the authors compute it, and ``stripes``, an N x gN and a gN x N depthwise convolution of tied weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..utils.checks import check_int, check_odd
from .arguments import autocast, check_tensors, without_autocast
from .backends.choice import available_backends
from .depthwise import depthwise_conv2d
from .observe import reporting
from .tracing import compiling, exporting

Branches = tuple[Tensor, Tensor, Tensor]
INDEX_DTYPES = (torch.int64, torch.int32, torch.int16, torch.uint8)


def count_groups(kernel_size: int, small_kernel: int) -> int:
    """g = ceil(M / N): how many N x N filters stand side by side for a kernel of size M."""
    return -(-kernel_size // small_kernel)


def check_stride(stride: object) -> None:
    """Raise ValueError unless ``stride`` is 1."""
    if stride != 1:
        raise ValueError(f'stride must be 1, since groups are shifted on maps of the size of input, but got {stride!r}')


def shiftwise_conv2d(
    input: Tensor,
    weight: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    identity: Tensor,
    kernel_size: int,
    *,
    stride: int = 1,
    backend: str | None = None,
) -> Branches:
    """The three branches of a ShiftwiseConv, zero padding and stride 1, differentiable in ``input`` and ``weight``.

    With s_i = M // 2 - i N - (N - 1) the shift of position i, and U_j the full correlation of a channel with its group
    j (N - 1 zeros on each side), ``wide`` is the sum over edges and positions of U_horizontal[i] shifted right by s_i,
    ``tall`` that of U_vertical[i] shifted down, ``small`` the sum over edges of U_identity, unshifted. Reads outside U
    are zero.

    Args:
        input: (B, C, H, W), C, H, W >= 1; float32, float64, float16 or bfloat16.
        weight: (C, g, N, N), N odd; dtype and device of ``input``.
        horizontal, vertical: (R, C, g), whole numbers: for each edge and channel which group stands at each position, a
            permutation of 0..g-1.
        identity: (R, C), whole numbers: for each edge and channel which group is not shifted.
        kernel_size: M, odd, with g = ceil(M / N). Where N does not divide M the kernel reaches further to the right and
            below than M // 2.
        stride: 1: the shifts have no other.
        backend: None for the fastest; 'groups' for the form of the authors, or a back-end for the stripes.

    Returns:
        wide, tall and small, each (B, C, H, W).

    Raises:
        TypeError: Wrong types or a mix of dtypes.
        ValueError: Wrong shapes, an even N or M, another stride, different devices, an unknown ``backend``.
        RuntimeError: The named ``backend`` cannot serve the call.
    """
    check_stride(stride)
    input, cast_weight, _ = autocast(input, weight, None)  # the filters are summed before they are rounded
    check_tensors(input, cast_weight, None)
    tables = {'horizontal': horizontal, 'vertical': vertical, 'identity': identity}
    _check_tables(input, weight, tables, kernel_size)
    if backend is not None and backend not in (*FORMS, *available_backends()):
        names = ', '.join(map(repr, ('groups', *available_backends())))
        raise ValueError(f'backend must be one of {names}, but got {backend!r}')
    form = FORMS['groups' if backend == 'groups' else 'stripes']
    with reporting('shiftwise_conv2d', input.shape, weight, (kernel_size, kernel_size)):
        return form(input, weight, horizontal.long(), vertical.long(), identity.long(), kernel_size, backend)


def by_groups(
    input: Tensor,
    weight: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    identity: Tensor,
    kernel_size: int,
    backend: str | None = None,
) -> Branches:
    """The definition: one grouped convolution, then a sum of shifted slices. The reference of the other form."""
    height, width = input.shape[2:]
    channels, groups, n = weight.shape[:3]
    small = F.conv2d(input, weight.reshape(-1, 1, n, n), padding=n - 1, groups=channels)
    small = small.unflatten(1, (channels, groups))
    edge = n // 2
    rows = small[..., edge : edge + height, :]  # of the wide branch, which is not shifted across them
    columns = small[..., edge : edge + width]
    wide, tall = torch.zeros_like(input), torch.zeros_like(input)
    every = torch.arange(channels, device=input.device)
    for edge_rows, edge_columns in zip(horizontal, vertical, strict=True):
        for i in range(groups):
            shift = kernel_size // 2 - i * n - (n - 1)
            wide = wide + _shifted(rows[:, every, edge_rows[:, i]], shift, width, dim=3)
            tall = tall + _shifted(columns[:, every, edge_columns[:, i]], shift, height, dim=2)
    centre = small[..., edge : edge + height, edge : edge + width]
    return wide, tall, sum((centre[:, every, chosen] for chosen in identity), torch.zeros_like(input))


def by_stripes(
    input: Tensor,
    weight: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    identity: Tensor,
    kernel_size: int,
    backend: str | None = None,
) -> Branches:
    """Three depthwise convolutions with the kernels of :func:`shiftwise_kernels`."""
    with without_autocast(weight.device.type):
        kernels = shiftwise_kernels(weight, horizontal, vertical, identity, kernel_size)
    wide, tall, small = (depthwise_conv2d(input, kernel, backend=backend) for kernel in kernels)
    return wide, tall, small


Form = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, str | None], Branches]
#: By name: (input, weight, horizontal, vertical, identity, kernel_size, backend) to the three branches.
FORMS: dict[str, Form] = {'groups': by_groups, 'stripes': by_stripes}


def shiftwise_kernels(
    weight: Tensor, horizontal: Tensor, vertical: Tensor, identity: Tensor, kernel_size: int
) -> Branches:
    """The dense equivalent: depthwise kernels of the three branches, the sum over edges of filters side by side.

    Args:
        weight: (C, g, N, N).
        horizontal, vertical: (R, C, g) of int64.
        identity: (R, C) of int64.
        kernel_size: M.

    Returns:
        (C, 1, N, L), (C, 1, L, N) and (C, 1, N, N), centred: where the stripe reaches further to one side, L counts
        zeros on the other.
    """
    n, groups = weight.shape[2], weight.shape[1]
    right = groups * n - 1 - kernel_size // 2
    margins = (max(right - kernel_size // 2, 0), max(kernel_size // 2 - right, 0))
    # products with counts instead of gathers: their gradient is deterministic on every device
    filters = weight.flatten(2)
    placed = _counts(horizontal, groups, weight) @ filters  # (C, g, N * N)
    wide = placed.unflatten(2, (n, n)).transpose(1, 2).flatten(2)  # (C, N, g * N)
    tall = (_counts(vertical, groups, weight) @ filters).unflatten(2, (n, n)).flatten(1, 2)  # (C, g * N, N)
    small = (_counts(identity[..., None], groups, weight) @ filters).unflatten(2, (n, n))
    return F.pad(wide, margins)[:, None], F.pad(tall, (0, 0, *margins))[:, None], small


def _counts(table: Tensor, groups: int, like: Tensor) -> Tensor:
    """(R, C, positions) of groups to (C, positions, g): in how many edges a group stands at a position."""
    return (table[..., None] == torch.arange(groups, device=table.device)).sum(0).to(like.dtype)


def _shifted(x: Tensor, shift: int, size: int, dim: int) -> Tensor:
    """``out[p] = x[p - shift]`` for p in 0..size-1 along ``dim``, zero where there is no such element."""
    first = -shift
    before, after = max(0, -first), max(0, first + size - x.shape[dim])
    start, stop = max(0, first), min(x.shape[dim], first + size)
    if start >= stop:
        shape = list(x.shape)
        shape[dim] = size
        return x.new_zeros(shape)
    padding = (before, after) if dim == 3 else (0, 0, before, after)
    return F.pad(x.narrow(dim, start, stop - start), padding)


def _check_tables(input: Tensor, weight: Tensor, tables: dict[str, Tensor], kernel_size: int) -> None:
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
        raise ValueError(f'weight must have shape (C, g, N, N), but got {tuple(weight.shape)}')
    n = weight.shape[2]
    check_odd('N, the size of the filters in weight,', n)
    check_odd('kernel_size', kernel_size)
    check_int('kernel_size', kernel_size, n)
    groups = count_groups(kernel_size, n)
    if weight.shape[1] != groups:
        raise ValueError(
            f'weight must hold g = ceil({kernel_size} / {n}) = {groups} filters a channel for kernel_size='
            f'{kernel_size}, but got shape {tuple(weight.shape)}'
        )
    for name, table in tables.items():
        if not isinstance(table, Tensor) or table.dtype not in INDEX_DTYPES:
            got = table.dtype if isinstance(table, Tensor) else type(table).__name__
            raise TypeError(f'{name} must be a tensor of whole numbers, but got {got}')
        expected = weight.shape[:1] if name == 'identity' else weight.shape[:2]
        if table.ndim != 1 + len(expected) or table.shape[1:] != expected or table.shape[0] < 1:
            shape = ', '.join(map(str, ('edges', *expected)))
            raise ValueError(f'{name} must have shape ({shape}), but got {tuple(table.shape)}')
        if table.device != input.device:
            raise ValueError(f'{name} must be on the device of input, {input.device}, but got {table.device}')
        if _is_readable(table) and table.numel():
            low, high = table.aminmax()
            if low < 0 or high >= groups:
                raise ValueError(f'{name} must hold groups from 0 to {groups - 1}, but got {low} to {high}')
    first, *others = (table.shape[0] for table in tables.values())
    if any(
        size != first for size in others
    ):  # not a set: in a trace sizes are tensors, and equal ones are not the same
        sizes = ', '.join(f'{name} {table.shape[0]}' for name, table in tables.items())
        raise ValueError(f'horizontal, vertical and identity must have the same number of edges, but got {sizes}')


def _is_readable(table: Tensor) -> bool:
    """Whether values may be looked at: elsewhere than on a CPU that waits for the device, in a graph it breaks it."""
    return type(table) is Tensor and table.device.type == 'cpu' and not (compiling() or exporting())
