"""Kernels as machine code: compiled without a GPU, disassembled, and taken apart into loops."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...ops.backends.triton_start import Launch
from ...utils.errors import ConfigError

TYPES = {torch.float32: '*fp32', torch.float16: '*fp16', torch.bfloat16: '*bf16', torch.int32: '*i32'}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a warp."""

    name: str
    """With its modifiers, ``LDG.E.128``."""
    operands: str

    @property
    def kind(self) -> str:
        """The name without modifiers."""
        return self.name.split('.')[0]


@dataclass
class Loop:
    """A loop of the machine code; the whole kernel as one that is passed once.

    Attributes:
        condition: Of the ``while`` or ``for`` in the source that it comes from, empty for the kernel.
        own: Instructions of one pass, without those of inner loops.
        inner: Loops within it.
    """

    condition: str
    own: list[Instruction] = field(default_factory=list)
    inner: list[Loop] = field(default_factory=list)

    def count(self, pattern: str) -> int:
        """Own instructions whose name matches from its beginning."""
        return sum(re.match(pattern, instruction.name) is not None for instruction in self.own)

    def walk(self) -> Iterator[Loop]:
        """This loop and those within it."""
        yield self
        for loop in self.inner:
            yield from loop.walk()


@dataclass(frozen=True)
class MachineCode:
    """A compiled kernel.

    Attributes:
        kernel: Its loops.
        registers: Of a thread.
        stack: Bytes of a thread: spilled registers lie there.
        shared: Bytes of shared memory of a program.
        warps: Of a program.
        ttgir: Triton's own last representation, with the layouts of tensors.
    """

    kernel: Loop
    registers: int
    stack: int
    shared: int
    warps: int
    ttgir: str

    @property
    def resident(self) -> int:
        """How many programs a multiprocessor holds at a time: 64 K registers, 64 warps, 227 KiB of shared memory."""
        registers = -(-self.registers // 8) * 8 * 32 * self.warps
        by_shared = (227 << 10) // (self.shared + 1024)
        return max(1, min((64 << 10) // registers, 64 // self.warps, by_shared, 32))


def machine_code(launch: Launch, capability: tuple[int, int]) -> MachineCode:
    """Compile what a launch needs for a GPU of a compute capability, which need not be there.

    Raises:
        ConfigError: Triton interprets its kernels in this process.
    """
    types = tuple((name, _type_of(value)) for name, value in launch.arguments.items())
    return _compiled(launch.kernel, types, tuple(launch.options.items()), capability)


def _type_of(value: Any) -> str:
    """An argument in Triton's terms."""
    if isinstance(value, Tensor):
        return TYPES[value.dtype]
    return 'fp32' if isinstance(value, float) else 'i32'


@cache
def _compiled(
    kernel: Any,
    types: tuple[tuple[str, str], ...],
    options: tuple[tuple[str, Any], ...],
    capability: tuple[int, int],
) -> MachineCode:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if not hasattr(kernel, 'cache_key'):
        raise ConfigError('kernels are interpreted, not compiled, under TRITON_INTERPRET=1: unset it')
    names = kernel.arg_names
    constants = {(names.index(name),): value for name, value in options if name in names}
    signature = dict.fromkeys(names, 'constexpr') | dict(types)
    aligned = {
        (parameter.num,): [['tt.divisibility', 16]]
        for parameter in kernel.params
        if signature[parameter.name].startswith('*') and not parameter.do_not_specialize
    }
    with _always_compiling():
        compiled = triton.compile(
            ASTSource(kernel, signature, constants, aligned),
            target=GPUTarget('cuda', capability[0] * 10 + capability[1], 32),
            options={name: value for name, value in options if name not in names},
        )
    tools = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(compiled.asm['cubin'])
        file.flush()
        text = _run(tools / 'nvdisasm', '-c', '--print-line-info', file.name)
        usage = _run(tools / 'cuobjdump', '-res-usage', file.name)
    found = re.search(r'REG:(\d+) STACK:(\d+)', usage)
    assert found is not None, usage
    registers, stack = map(int, found.groups())
    metadata = compiled.metadata
    loops = _loops(text, _source_loops(kernel))
    return MachineCode(loops, registers, stack, metadata.shared, metadata.num_warps, compiled.asm['ttgir'])


@contextmanager
def _always_compiling() -> Iterator[None]:
    """Triton's cache may hold the same code with line numbers of another version of the file."""
    name = 'TRITON_ALWAYS_COMPILE'
    before = os.environ.get(name)
    os.environ[name] = '1'
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class _SourceLoop:
    """A ``while`` of a kernel, or of a function that it calls there."""

    condition: str
    file: str
    lines: range
    around: tuple[str, ...]
    """Conditions of the loops around it, the innermost last."""


def _source_loops(function: Any, around: tuple[str, ...] = ()) -> list[_SourceLoop]:
    """The loops of a Triton function."""
    python = function.fn
    lines, first = inspect.getsourcelines(python)
    tree = ast.parse(textwrap.dedent(''.join(lines)))
    found = []

    def visit(node: ast.AST, around: tuple[str, ...]) -> None:
        if isinstance(node, ast.While):
            span = range(node.lineno + first - 1, (node.end_lineno or node.lineno) + first)
            found.append(_SourceLoop(ast.unparse(node.test), inspect.getfile(python), span, around))
            around = (*around, ast.unparse(node.test))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = python.__globals__.get(node.func.id)
            if hasattr(called, 'arg_names'):
                found.extend(_source_loops(called, around))
        for child in ast.iter_child_nodes(node):
            visit(child, around)

    visit(tree, around)
    return found


def _loops(text: str, source: list[_SourceLoop]) -> Loop:
    """The loops of a disassembly: instructions between a label and a later branch back to it."""
    instructions: list[Instruction] = []
    origins: list[str] = []
    labels: dict[str, int] = {}
    origin = ''
    for line in text.splitlines():
        if found := re.match(r'\s*//## File "([^"]+)", line (\d+)', line):
            place = found[1], int(found[2])
            around = [loop for loop in source if loop.file == place[0] and place[1] in loop.lines]
            origin = max(around, key=lambda loop: loop.lines.start).condition if around else ''
        elif found := re.match(r'(\.L_x_\d+):', line):
            labels[found[1]] = len(instructions)
        elif found := re.search(r'/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+ )?(\S+)\s*(.*?)\s*;', line):
            instructions.append(Instruction(found[1], found[2]))
            origins.append(origin)
    #: Where a loop begins, to its last branch back there.
    ends: dict[int, int] = {}
    for index, instruction in enumerate(instructions):
        found = re.search(r'`\((\.L_x_\d+)\)', instruction.operands) if instruction.kind == 'BRA' else None
        start = labels.get(found[1], index) if found else index
        if start < index:  # a program ends with a branch to itself
            ends[start] = index
    kernel = Loop('')
    open_loops = [(len(instructions), kernel, Counter[str]())]
    for index, instruction in enumerate(instructions):
        while index > open_loops[-1][0]:
            _close(open_loops, source)
        if index in ends:
            loop = Loop('')
            open_loops[-1][1].inner.append(loop)
            open_loops.append((ends[index], loop, Counter()))
        open_loops[-1][1].own.append(instruction)
        open_loops[-1][2][origins[index]] += 1
    while len(open_loops) > 1:
        _close(open_loops, source)
    return kernel


def _close(open_loops: list[tuple[int, Loop, Counter[str]]], source: list[_SourceLoop]) -> None:
    """The innermost loop is over: it is the source's loop from which most of its instructions come.

    That is around the loops within it, and itself within at least as many as the machine's loop is.
    """
    _, loop, origins = open_loops.pop()
    depth = len(open_loops) - 1
    around = [s.around for s in source for inner in loop.inner if s.condition == inner.condition]
    possible = [s for s in source if len(s.around) >= depth and all(s.condition in names for names in around)]
    # of several without instructions of their own, the innermost
    best = max(possible, key=lambda s: (origins[s.condition], len(s.around)), default=None)
    loop.condition = best.condition if best else ''
