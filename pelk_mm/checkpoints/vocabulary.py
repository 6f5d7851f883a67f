"""The closed table of what a checkpoint may name: plain values, and constructors that check their arguments.

PyTorch's own list for ``weights_only=True`` is longer, and calls what it lists with whatever the file says. Sizes,
offsets and buffers from a file are checked here before PyTorch or numpy see them.
"""

import math
import pickle
import re
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn
from torch.storage import TypedStorage

STATISTICS = ('min', 'max', 'current', 'mean')
# PyTorch's types of dense tensors; not every version has all.
_DTYPE_NAMES = (
    *('bool', 'uint8', 'int8', 'int16', 'int32', 'int64', 'uint16', 'uint32', 'uint64'),
    *('float16', 'bfloat16', 'float32', 'float64', 'complex64', 'complex128'),
    *('float8_e4m3fn', 'float8_e5m2', 'float8_e4m3fnuz', 'float8_e5m2fnuz'),
)
DTYPES = {getattr(torch, name) for name in _DTYPE_NAMES if hasattr(torch, name)}
_EXPANDED_BYTES = 1 << 20  # a tensor that repeats its storage may look this large
_MOST_DIMENSIONS = 32
_NUMPY_CODE = re.compile(r'[<|=]?([biufcSU])(\d{1,9})', re.ASCII)


class ForbiddenGlobalError(pickle.UnpicklingError):
    """A file names something that is not in the table; the message is that name."""


@dataclass(frozen=True)
class Constructor:
    """Something that a file may call.

    Attributes:
        name: As the file writes it.
        call: Checks its arguments and makes the object.
        cost: Memory of the object in bytes, without what its arguments hold.
    """

    name: str
    call: Callable[..., Any]
    cost: int = 512


@dataclass(frozen=True)
class Marker:
    """Something that a file may hand to a constructor, and nothing else."""

    name: str


def demand(condition: object, what: str) -> None:
    """Refuse a file in which ``condition`` does not hold.

    Raises:
        pickle.UnpicklingError: Naming ``what`` is wrong.
    """
    if not condition:
        raise pickle.UnpicklingError(what)


def is_key(value: object) -> bool:
    """Tell whether a value may be a key: hashing a nested tuple would overflow the C stack."""
    plain = {str, int, float, bool, bytes, type(None)}
    return type(value) in plain or (type(value) is tuple and all(type(part) in plain for part in value))


def array_bytes(dtype: np.dtype, shape: Any) -> int:
    """Return what an array of this type and shape takes, in bytes, after a check of the shape."""
    demand(_are_sizes(shape), 'the shape of an array is not a tuple of sizes')
    return math.prod(shape) * dtype.itemsize


def check_values(array: np.ndarray) -> None:
    """Refuse an array whose bytes are no values of its type: truth values beyond 0 and 1, impossible characters."""
    if array.dtype.kind == 'b':
        demand(array.view(np.uint8).max(initial=0) <= 1, 'a truth value is neither 0 nor 1')
    if array.dtype.kind == 'U' and array.size:
        demand(np.frombuffer(array.tobytes(), np.uint32).max() <= 0x10FFFF, 'a character is impossible')


def _are_sizes(value: Any) -> bool:
    return _are_counts(value) and len(value) <= _MOST_DIMENSIONS and math.prod(size for size in value if size) < 1 << 62


def _are_counts(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(count) is int and 0 <= count < 1 << 62 for count in value)


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None, *rest: Any
) -> Tensor:
    return _view_of(
        storage,
        storage.dtype if isinstance(storage, TypedStorage) else None,
        offset,
        size,
        stride,
        requires_grad,
        *rest,
    )


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Tensor:
    return _view_of(storage, dtype, offset, size, stride, requires_grad, *rest)


def _view_of(
    storage: Any, dtype: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, metadata: Any = None
) -> Tensor:
    """Make a tensor whose elements all lie in its storage. The file's hooks are dropped: ``torch.save`` writes none."""
    demand(isinstance(storage, TypedStorage) and dtype in DTYPES, 'a tensor has no storage of numbers')
    demand(
        type(requires_grad) is bool and not metadata, 'a tensor has flags that torch.save does not write for weights'
    )
    demand(_are_sizes(size) and _are_counts(stride) and len(size) == len(stride), 'a tensor has impossible sizes')
    demand(_are_counts((offset,)), 'a tensor has an impossible offset')
    untyped = storage._untyped_storage
    extent = 0 if 0 in size else 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    room = untyped.nbytes() // dtype.itemsize
    demand(offset + extent <= room, 'a tensor reaches beyond its storage')
    demand(
        math.prod(size) * dtype.itemsize <= max(untyped.nbytes(), _EXPANDED_BYTES),
        'a tensor is larger than its storage',
    )
    tensor = torch.empty((0,), dtype=dtype, device=untyped.device)
    return tensor.set_(untyped, offset, size, stride).requires_grad_(requires_grad)


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> nn.Parameter:
    demand(type(data) is Tensor and type(requires_grad) is bool, 'a parameter holds no tensor')
    return nn.Parameter(data, requires_grad)


def _size(value: Any) -> torch.Size:
    demand(_are_sizes(value), 'a torch.Size is not a tuple of sizes')
    return torch.Size(value)


def _device(kind: Any, *index: Any) -> torch.device:
    demand(
        type(kind) is str and len(kind) <= 32 and all(type(i) is int and 0 <= i < 128 for i in index),
        'a device is unknown',
    )
    return torch.device(kind, *index)


def _encode(text: Any, encoding: Any) -> bytes:
    demand(type(text) is str and encoding in ('latin1', 'latin-1'), 'bytes are not written as latin1')
    return text.encode('latin1')


def _set(items: Any) -> set:
    demand(type(items) is list and all(map(is_key, items)), 'a set holds something else than plain values')
    return set(items)


def _frozenset(items: Any) -> frozenset:
    return frozenset(_set(items))


def _counter(counts: Any = None) -> Counter:
    demand(type(counts) is dict, 'a Counter is not made of a dictionary')
    return Counter(counts)


def _dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype:
    match = _NUMPY_CODE.fullmatch(code) if type(code) is str else None
    demand(match, 'an array is not of numbers or text in the byte order of this machine')
    return np.dtype(code)


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    demand(kind == Marker('numpy.ndarray') and shape == (0,) and code in (b'b', 'b'), 'an array is not one of numpy')
    return np.empty(0, np.int8)


def _scalar(dtype: Any, data: Any) -> np.generic:
    demand(
        isinstance(dtype, np.dtype) and type(data) is bytes and len(data) == dtype.itemsize > 0, 'a number is cut off'
    )
    array = np.frombuffer(data, dtype)
    check_values(array)
    return array[0]


def _array_of_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    demand(
        type(data) in (bytes, bytearray) and isinstance(dtype, np.dtype) and order in ('C', 'F'),
        'an array is malformed',
    )
    demand(len(data) == array_bytes(dtype, shape), 'an array does not fit its shape')
    array = (np.frombuffer(data, dtype) if data else np.empty(0, dtype)).reshape(shape, order=order)
    check_values(array)
    return array


def _path(*parts: Any) -> str:
    demand(all(type(part) is str for part in parts), 'a path is not made of text')
    return '/'.join(parts)


def _statistic(owner: Any, name: Any) -> Marker:
    """Stand in for ``getattr``, by which a pickled ``HistoryBuffer`` names its own statistics."""
    if owner != _HISTORY_BUFFER or name not in STATISTICS:
        raise ForbiddenGlobalError(f'builtins.getattr of {name!r}'[:100])
    return Marker(f'HistoryBuffer.{name}')


def _constructors() -> dict[str, Constructor]:
    tensor_cost = 2048
    functions: dict[str, tuple[Callable[..., Any], int]] = {
        'collections.OrderedDict': (lambda: OrderedDict(), 512),
        'collections.Counter': (_counter, 512),
        'builtins.bytes': (lambda: b'', 64),  # how protocol 2 writes no bytes
        'builtins.set': (_set, 512),
        'builtins.frozenset': (_frozenset, 512),
        'builtins.getattr': (_statistic, 128),
        '_codecs.encode': (_encode, 64),
        'torch._utils._rebuild_tensor': (_tensor, tensor_cost),
        'torch._utils._rebuild_tensor_v2': (_tensor, tensor_cost),
        'torch._utils._rebuild_tensor_v3': (_tensor_v3, tensor_cost),
        'torch._utils._rebuild_parameter': (_parameter, tensor_cost),
        'torch.Size': (_size, 128),
        'torch.device': (_device, 128),
        'numpy.dtype': (_dtype, 128),
    }
    for core in ('numpy.core', 'numpy._core'):
        functions[f'{core}.multiarray._reconstruct'] = (_empty_array, 256)
        functions[f'{core}.multiarray.scalar'] = (_scalar, 256)
        functions[f'{core}.numeric._frombuffer'] = (_array_of_buffer, 256)
    return {name: Constructor(name, *entry) for name, entry in functions.items()}


_HISTORY_BUFFER = Constructor('mmengine.logging.history_buffer.HistoryBuffer', lambda: HistoryBuffer(), 1024)
_TABLE: Mapping[str, Any] = {
    **_constructors(),
    _HISTORY_BUFFER.name: _HISTORY_BUFFER,
    **{f'{_HISTORY_BUFFER.name}.{name}': Marker(f'HistoryBuffer.{name}') for name in STATISTICS},
    'numpy.ndarray': Marker('numpy.ndarray'),
    'torch.storage.UntypedStorage': torch.UntypedStorage,
    'torch.UntypedStorage': torch.UntypedStorage,
    **{str(dtype): dtype for dtype in DTYPES},
}
# The command line that authors keep beside their weights. A path in it becomes its text.
_COMMAND_LINE = {
    'argparse.Namespace': Constructor('argparse.Namespace', lambda: Namespace(), 512),
    **{
        f'{module}.{name}': Constructor(f'{module}.{name}', _path, 1024)
        for module in ('pathlib', 'pathlib._local')  # the second in Python 3.13
        for name in ('Path', 'PosixPath', 'WindowsPath', 'PurePath', 'PurePosixPath', 'PureWindowsPath')
    },
}


def look_up(module: str, name: str, namespaces: bool = False) -> Any:
    """Look up what a file names.

    Args:
        module: As pickles write it, with Python 2's names for Python 2's modules.
        name: Of the class, function or value in it.
        namespaces: ``argparse.Namespace`` and the classes of ``pathlib`` are in the table too.

    Raises:
        ForbiddenGlobalError: It is not in the table.
    """
    path = f'{"builtins" if module == "__builtin__" else module}.{name}'
    if namespaces and path in _COMMAND_LINE:
        return _COMMAND_LINE[path]
    if path not in _TABLE:
        raise ForbiddenGlobalError(path)
    return _TABLE[path]
