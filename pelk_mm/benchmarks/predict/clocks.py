"""What a program's instructions cost a multiprocessor, in clocks: the model and its constants.

A pass of a loop costs the largest of what it asks of four resources: issue slots, time in which its programs wait,
shared memory, tensor cores. Programs that are resident at the same time wait side by side. The constants are those of
an H100, from its data sheet and from what is published of its latencies; none was fitted to a result.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from .machine_code import Instruction, Loop, MachineCode
from .passes import Passes

#: Warp instructions a clock: of four schedulers three find one.
ISSUED = 3
#: Writing to shared memory, a barrier, reading from there, another barrier: what a change of layout takes, clocks.
BARRIER_PAIR = 95
#: A read that hits the first cache.
CACHE_HIT = 45
#: Bytes a clock between registers, shared memory and the first cache.
SHARED_BYTES = 128
#: Products of half precision a clock on dense tensor cores; TF32 takes half as many.
PRODUCTS = 2048
#: Clocks a second at which copies and products of an H100 go together.
CLOCK = 1.755e9
MULTIPROCESSORS = 132
#: Bytes a second of a device copy, of torch's elementwise kernels.
COPY_BYTES, ELEMENTWISE_BYTES = 3.0e12, 2.6e12
#: Seconds that any kernel takes at least.
SHORTEST = 2e-6

RESOURCES = ('issue', 'waiting', 'shared memory', 'tensor cores')


@dataclass(frozen=True)
class Clocks:
    """Clocks of a multiprocessor for one program.

    Attributes:
        total: With the largest resource of each pass.
        alone: What each resource asks by itself.
        binding: How much of the total each one binds.
    """

    total: float
    alone: dict[str, float]
    binding: dict[str, float]


def program_clocks(code: MachineCode, passes: Mapping[str, Passes], resident: float) -> Clocks:
    """Clocks of one program, of which ``resident`` share a multiprocessor.

    Raises:
        ValueError: A loop whose passes are not given.
    """
    total = 0.0
    alone, binding = (dict.fromkeys(RESOURCES, 0.0) for _ in range(2))

    def add(loop: Loop, times: float) -> None:
        nonlocal total
        asked = _asked(loop, code.warps, resident)
        most = max(RESOURCES, key=lambda resource: asked[resource])
        total += times * asked[most]
        binding[most] += times * asked[most]
        for resource in RESOURCES:
            alone[resource] += times * asked[resource]
        for inner in loop.inner:
            if inner.condition not in passes:
                raise ValueError(f'passes must hold the loop {inner.condition!r}, but holds {", ".join(passes)}')
            described = passes[inner.condition]
            unrolled = max(1.0, inner.count('LDG') / described.loads) if described.loads else 1.0
            add(inner, times * described.of(unrolled))

    add(code.kernel, 1.0)
    return Clocks(total, alone, binding)


def _asked(loop: Loop, warps: int, resident: float) -> dict[str, float]:
    """Clocks that one pass asks of each resource, without inner loops."""
    products = sum(_products(instruction, warps) for instruction in loop.own)
    on_tensor_cores = products / PRODUCTS
    waiting = CACHE_HIT * _rounds(loop) + BARRIER_PAIR * loop.count('BAR') / 2 + on_tensor_cores
    return {
        'issue': len(loop.own) * warps / ISSUED,
        'waiting': waiting / resident,
        'shared memory': _moved(loop, warps) / SHARED_BYTES,
        'tensor cores': on_tensor_cores,
    }


def _rounds(loop: Loop) -> int:
    """How often a pass waits for loads: those between one branch or barrier and the next are under way together."""
    rounds = 0
    waiting = False
    for instruction in loop.own:
        if instruction.kind in ('BAR', 'BRA'):
            waiting = False
        elif instruction.kind == 'LDG' and not waiting:
            rounds, waiting = rounds + 1, True
    return rounds


def _moved(loop: Loop, warps: int) -> float:
    """Bytes between registers, shared memory and the first cache, without what goes around in a barrier's pair."""
    moved: dict[str, float] = defaultdict(float)
    for instruction in loop.own:
        moved[instruction.kind] += _bytes(instruction, warps)
    around = min(moved['STS'], moved['LDS'])
    return sum(moved.values()) - moved['LDS'] - around


def _products(instruction: Instruction, warps: int) -> float:
    """Multiplications of half precision, or twice those of TF32, by all warps."""
    if found := re.match(r'HGMMA\.(\d+)x(\d+)x(\d+)', instruction.name):
        rows, columns, inner = map(int, found.groups())
        halves = 2 if 'TF32' in instruction.name else 1
        return rows * columns * inner * halves * warps / 4
    if found := re.match(r'HMMA\.168(\d+)', instruction.name):
        return 16 * 8 * int(found[1]) * (2 if 'TF32' in instruction.name else 1) * warps
    return 0


def _bytes(instruction: Instruction, warps: int) -> float:
    """Bytes that all warps move between registers, shared memory and the first cache."""
    if instruction.kind in ('LDG', 'STG', 'LDS', 'STS'):
        wide = re.search(r'\.(U8|S8|U16|S16|64|128)\b', instruction.name)
        size = {'U8': 1, 'S8': 1, 'U16': 2, 'S16': 2, '64': 8, '128': 16}[wide[1]] if wide else 4
        return size * 32 * warps
    if instruction.kind in ('LDSM', 'STSM'):
        matrices = re.search(r'\.M88\.(\d)|\.(\d)$', instruction.name)
        return 128 * int((matrices[1] or matrices[2]) if matrices else 1) * warps
    if found := re.match(r'HGMMA\.(\d+)x(\d+)x(\d+)', instruction.name):
        rows, columns, inner = map(int, found.groups())
        size = 4 if 'TF32' in instruction.name else 2
        from_registers = re.match(r'R\d+, R\d+', instruction.operands) is not None
        return (columns + (0 if from_registers else rows)) * inner * size * warps / 4
    return 0
