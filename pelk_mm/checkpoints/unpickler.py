"""An unpickler for files of unknown origin: a closed table of names, checked arguments, a limit to memory and to depth.

``torch.load`` takes a module to unpickle with; :class:`SafePickle` stands for one. It runs the opcodes that checkpoints
hold on Python's own machine, written in Python, whose handlers are replaced where they would trust the file.
"""

import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch
from torch.serialization import StorageType

from .limits import Budget
from .states import give_state
from .vocabulary import DTYPES, Constructor, ForbiddenGlobalError, demand, is_key, look_up

_PythonUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]  # the one written in Python
_LONGEST_NAME = 256
_SHORT_TEXT = 4096  # bytes
_STORAGE_COST = 1536  # bytes


class SafePickle:
    """What ``torch.load(pickle_module=...)`` needs of a module, for one file.

    Args:
        budget: Of the file.
        file_size: In bytes.
        records: Size of each record of an archive; None for the format before archives.
        namespaces: Allow ``argparse.Namespace``.
    """

    __name__ = 'pelk_mm.checkpoints.unpickler'

    def __init__(self, budget: Budget, file_size: int, records: dict[str, int] | None, namespaces: bool) -> None:
        # PyTorch inherits from this class, and hands over nothing of its own.
        parts: dict[str, Any] = {
            'budget': budget,
            'records': records,
            'namespaces': namespaces,
            'room': Budget(file_size),
            'claimed': set(),
        }
        self.Unpickler: type[SafeUnpickler] = type('Unpickler', (SafeUnpickler,), parts)

    def load(self, file: BinaryIO, **options: Any) -> Any:
        """Unpickle one object that refers to no storage, as the format before archives holds several of.

        The last one names the storages that follow. One that the content refers to may not be missing there, or its
        tensors would hold whatever the memory held before.
        """
        value = self.Unpickler(file, **options).load()
        claimed = self.Unpickler.claimed
        if claimed:
            listed = type(value) is list and all(type(key) is str for key in value) and len(value) == len(claimed)
            demand(listed and set(value) == claimed, 'the storages that follow are not those that its content needs')
        return value


class _Source:
    """A file that is read without making room for more than the budget, and lines only as long as names."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file, self._budget = file, budget

    def read(self, size: int) -> bytes:
        self._budget.reserve(size)
        data = self._file.read(size)
        demand(len(data) == size, 'a pickle in it is cut off')
        return data

    def readline(self) -> bytes:
        return self._file.readline(_LONGEST_NAME)


class SafeUnpickler(_PythonUnpickler):
    """Unpickles what checkpoints hold.

    Attributes:
        budget, records, namespaces: As of :class:`SafePickle`.
        room: Memory for storages: the file has no more.
        claimed: Names of the storages referred to so far.
    """

    budget: Budget
    records: dict[str, int] | None
    namespaces: bool
    room: Budget
    claimed: set[str]
    dispatch: dict[int, Callable[['SafeUnpickler'], None]]

    def __init__(self, file: BinaryIO, *, encoding: str = 'utf-8') -> None:
        super().__init__(_Source(file, self.budget), fix_imports=False, encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the table."""
        return look_up(module, name, self.namespaces)

    def _load_text(self, size: int) -> None:
        data = self.read(size)
        # UTF-8 is decoded into 1, 2 or 4 bytes a character, the widest one decides; for a moment there are two copies.
        widest = np.frombuffer(data, np.uint8).max() if size > _SHORT_TEXT else 0xFF
        self.budget.reserve(size * (2 if widest < 0xC4 else 3 if widest < 0xF0 else 5))
        text = data.decode('utf-8', 'surrogatepass')
        self.budget.spend(sys.getsizeof(text))
        self.append(text)

    def _load_binunicode(self) -> None:
        self._load_text(self._number('<I'))

    def _load_binunicode8(self) -> None:
        self._load_text(self._number('<Q'))

    def _load_short_binunicode(self) -> None:
        self._load_text(self._number('<B'))

    def _load_bytes(self, size: int) -> None:
        data = self.read(size)
        self.budget.spend(sys.getsizeof(data))
        self.append(data)

    def _load_binbytes(self) -> None:
        self._load_bytes(self._number('<I'))

    def _load_binbytes8(self) -> None:
        self._load_bytes(self._number('<Q'))

    def _load_short_binbytes(self) -> None:
        self._load_bytes(self._number('<B'))

    def _load_bytearray8(self) -> None:
        self._load_bytes(self._number('<Q'))
        self.budget.spend(sys.getsizeof(self.stack[-1]))
        self.stack[-1] = bytearray(self.stack[-1])

    def _load_frame(self) -> None:
        size = self._number('<Q')
        self.budget.spend(size)
        self._unframer.load_frame(size)

    def _number(self, code: str) -> int:
        return struct.unpack(code, self.read(struct.calcsize(code)))[0]

    def _load_append(self) -> None:
        value = self.stack.pop()
        demand(type(self.stack[-1]) is list, 'something else than a list is appended to')
        self.stack[-1].append(value)

    def _load_appends(self) -> None:
        values = self.pop_mark()
        demand(type(self.stack[-1]) is list, 'something else than a list is appended to')
        self.stack[-1].extend(values)

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, pairs: list) -> None:
        target = self.stack[-1]
        demand(
            type(target) in (dict, OrderedDict) and len(pairs) % 2 == 0, 'something else than a dictionary is filled'
        )
        demand(all(map(is_key, pairs[::2])), 'a key is not a plain value')
        self.budget.spend(64 * len(pairs))
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def _load_additems(self) -> None:
        items = self.pop_mark()
        demand(type(self.stack[-1]) is set and all(map(is_key, items)), 'a set holds something else than plain values')
        self.budget.spend(128 * len(items))
        self.stack[-1].update(items)

    def _load_frozenset(self) -> None:
        items = self.pop_mark()
        demand(all(map(is_key, items)), 'a set holds something else than plain values')
        self.budget.spend(128 * len(items))
        self.append(frozenset(items))

    def _load_binget(self) -> None:
        self.append(self.memo[self._number('<B')])

    def _load_long_binget(self) -> None:
        self.append(self.memo[self._number('<I')])

    def _load_stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        demand(type(name) is str and type(module) is str, 'a name is not text')
        self.append(self.find_class(module, name))

    def _load_call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        demand(type(arguments) is tuple, 'a function is called without a tuple')
        if type(function) is not Constructor:
            raise ForbiddenGlobalError(getattr(function, 'name', type(function).__name__))
        self.budget.spend(function.cost + sum(_COPIED.get(type(value), _nothing)(value) for value in arguments))
        self.append(function.call(*arguments))

    def _load_build(self) -> None:
        state = self.stack.pop()
        give_state(self.stack[-1], state)

    def _load_binpersid(self) -> None:
        identity = self.stack.pop()
        self._check_storage(identity)
        self.budget.spend(_STORAGE_COST)
        self.append(self.persistent_load(identity))

    def _check_storage(self, identity: Any) -> None:
        """Demand that a storage is in the file with all the bytes that it is said to have; PyTorch would not look."""
        length = 5 if self.records is not None else 6
        demand(
            type(identity) is tuple and len(identity) == length and identity[0] == 'storage', 'it refers to no storage'
        )
        _, kind, key, location, count, *view = identity
        dtype = (
            torch.uint8 if kind is torch.UntypedStorage else kind.dtype if type(kind) is StorageType else torch.quint8
        )
        demand(dtype in DTYPES, 'a storage is not one of numbers')
        demand(type(key) is str and type(location) is str and len(location) <= 32, 'a storage has no name')
        demand(type(count) is int and 0 <= count < 1 << 62, 'a storage has no size')
        size = count * dtype.itemsize
        demand(self.records is None or self.records.get(f'data/{key}', -1) >= size, f'storage {key!r:.40} is cut off')
        if key not in self.claimed:
            self.claimed.add(key)
            self.room.spend(size)
        for part in view:
            demand(
                part is None or (type(part) is tuple and [type(value) for value in part] == [str, int, int]),
                'a storage is a part of no other',
            )
            demand(part is None or min(part[1:]) >= 0, 'a storage is a part of no other')


def _nothing(value: object) -> int:
    return 0


# What constructors copy of their arguments, in bytes.
_COPIED: dict[type, Callable[[Any], int]] = {dict: sys.getsizeof, list: lambda items: 256 * len(items), str: len}


class _Opcodes(dict):
    def __missing__(self, code: int) -> None:
        raise pickle.UnpicklingError(f'opcode {bytes([code])!r} is not one that checkpoints hold')


def _costing(cost: int, handler: Callable[[Any], None]) -> Callable[[Any], None]:
    def run(unpickler: SafeUnpickler) -> None:
        unpickler.budget.spend(cost)
        handler(unpickler)

    return run


def _opcodes() -> _Opcodes:
    """Give each opcode its handler and what it may take: its object, its places in the stack and the memo."""
    base, ours = _PythonUnpickler, SafeUnpickler
    handlers: list[tuple[int, dict[bytes, Callable[[Any], None]]]] = [
        (
            64,
            {
                pickle.PROTO: base.load_proto,
                pickle.FRAME: ours._load_frame,
                pickle.STOP: base.load_stop,
                pickle.NONE: base.load_none,
                pickle.NEWTRUE: base.load_true,
                pickle.NEWFALSE: base.load_false,
                pickle.BININT: base.load_binint,
                pickle.BININT1: base.load_binint1,
                pickle.BININT2: base.load_binint2,
                pickle.BINFLOAT: base.load_binfloat,
                pickle.BINUNICODE: ours._load_binunicode,
                pickle.BINUNICODE8: ours._load_binunicode8,
                pickle.SHORT_BINUNICODE: ours._load_short_binunicode,
                pickle.BINSTRING: ours._load_binunicode,  # Python 2's text
                pickle.SHORT_BINSTRING: ours._load_short_binunicode,
                pickle.BINBYTES: ours._load_binbytes,
                pickle.BINBYTES8: ours._load_binbytes8,
                pickle.SHORT_BINBYTES: ours._load_short_binbytes,
                pickle.BYTEARRAY8: ours._load_bytearray8,
                pickle.APPEND: ours._load_append,
                pickle.APPENDS: ours._load_appends,
                pickle.SETITEM: ours._load_setitem,
                pickle.SETITEMS: ours._load_setitems,
                pickle.ADDITEMS: ours._load_additems,
                pickle.BINGET: ours._load_binget,
                pickle.LONG_BINGET: ours._load_long_binget,
                pickle.GLOBAL: base.load_global,
                pickle.STACK_GLOBAL: ours._load_stack_global,
                pickle.REDUCE: ours._load_call,
                pickle.NEWOBJ: ours._load_call,
                pickle.BUILD: ours._load_build,
                pickle.BINPERSID: ours._load_binpersid,
            },
        ),
        (
            128,
            {
                pickle.EMPTY_TUPLE: base.load_empty_tuple,
                pickle.EMPTY_LIST: base.load_empty_list,
                pickle.TUPLE: base.load_tuple,
                pickle.TUPLE1: base.load_tuple1,
                pickle.TUPLE2: base.load_tuple2,
                pickle.TUPLE3: base.load_tuple3,
                pickle.BINPUT: base.load_binput,
                pickle.LONG_BINPUT: base.load_long_binput,
                pickle.MEMOIZE: base.load_memoize,
            },
        ),
        (
            320,
            {
                pickle.MARK: base.load_mark,
                pickle.LONG1: base.load_long1,
                pickle.EMPTY_DICT: base.load_empty_dictionary,
                pickle.EMPTY_SET: base.load_empty_set,
                pickle.FROZENSET: ours._load_frozenset,
            },
        ),
    ]
    return _Opcodes({code[0]: _costing(cost, run) for cost, some in handlers for code, run in some.items()})


SafeUnpickler.dispatch = _opcodes()
