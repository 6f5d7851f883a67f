"""Compiles every configuration of the Triton kernels that a launch can choose; prints what each takes, as JSON lines.

Run as a program, apart from tests that interpret the kernels: python triton_compiler.py CAPABILITY PART PARTS
"""

import json
import re
import sys
from itertools import product

import torch

from pelk_mm.benchmarks.predict.machine_code import machine_code
from pelk_mm.ops import SharingGrid
from pelk_mm.ops.backends import triton_launch
from pelk_mm.ops.backends.triton_operands import units
from pelk_mm.ops.backends.triton_start import Hardware, planned
from pelk_mm.ops.backends.triton_support import DTYPES
from pelk_mm.ops.backends.triton_tables import tables_of

#: By alignment in elements, maps (H, W) of every block of columns for rows; for bands, whole and in parts; and maps of
#: large batches.
SIZES = {
    8: [(8, 8), (80, 8), (8, 24), (80, 24), (8, 56), (40, 56), (80, 56), (40, 96)],
    4: [(8, 12), (80, 12), (8, 28), (80, 28), (8, 52), (40, 52), (80, 52), (40, 84)],
    2: [(8, 14), (80, 14), (8, 30), (80, 30), (8, 42), (40, 42), (80, 42), (40, 90)],
    1: [(8, 7), (8, 25), (8, 63), (40, 63), (80, 63), (40, 81)],
}
WHOLE = {8: (8, 8), 4: (14, 14), 2: (6, 7), 1: (7, 7)}
#: Without and with long segments, of which sums are read.
GRIDS = [SharingGrid.exponential(13, 5).sizes, SharingGrid.exponential(151, 7).sizes]


def configurations(capability):
    """A launch of each; of bfloat16 on sm_90 at every alignment, otherwise at the largest and the smallest.

    With a bias at the largest one.
    """
    meta = torch.device('meta')
    found = {}
    kept = torch.get_float32_matmul_precision()
    for dtype in DTYPES:
        alignments = units(dtype)
        if dtype != torch.bfloat16 or capability < 90:
            alignments = [alignments[0], 1]
        shapes = [(unit, 1, *size) for unit in alignments for size in SIZES[unit]]
        shapes += [(unit, 64, *WHOLE[unit]) for unit in alignments]
        precisions = ('highest', 'high') if dtype == torch.float32 else ('highest',)
        for (unit, n, *size), segments, has_bias, precision in product(shapes, GRIDS, (False, True), precisions):
            if has_bias and unit != alignments[0]:  # it is added where the output is written: once is enough
                continue
            torch.set_float32_matmul_precision(precision)
            x = torch.empty(n, 1, *size, dtype=dtype, device=meta)
            weight = torch.empty(1, 1, len(segments), len(segments), dtype=dtype, device=meta)
            bias = torch.empty(1, dtype=dtype, device=meta) if has_bias else None
            tables = tables_of(segments, segments, meta)
            with planned(Hardware(divmod(capability, 10), 132)) as launches:
                triton_launch.forward(x, weight, segments, segments, bias, tables)
                triton_launch.backward(x, x, weight, segments, segments, True, True, tables)
            for launch in launches:
                found.setdefault((launch.kernel.fn.__name__, dtype, *launch.options.values()), launch)
    torch.set_float32_matmul_precision(kept)
    return list(found.values())


def described(launch, capability):
    """What a launch is compiled to."""
    code = machine_code(launch, divmod(capability, 10))
    innermost = [loop for loop in code.kernel.walk() if loop.condition and not loop.inner]
    return {
        'kernel': launch.kernel.fn.__name__,
        'dtype': str(launch.arguments[launch.kernel.arg_names[0]].dtype).removeprefix('torch.'),
        **launch.options,
        'registers': code.registers,
        'stack': code.stack,
        'shared': code.shared,
        'resident': code.resident,
        'loops': [
            {
                'condition': loop.condition,
                'innermost': loop in innermost,
                'instructions': len(loop.own),
                'barriers': loop.count('BAR'),
                'products': loop.count(r'H(G)?MMA'),
                'loads of 2 bytes': loop.count(r'LDG\.E\.U16'),
            }
            for loop in code.kernel.walk()
        ],
        'conversions': conversions_in_loops(code.ttgir),
    }


def conversions_in_loops(ttgir):
    """Depth in loops, types before and after, of conversions through shared memory."""
    around, found = [], []
    for line in ttgir.splitlines():
        depth = sum(around)
        if depth and 'ttg.convert_layout' in line:
            before, after = re.search(r'(tensor<.*>) -> (tensor<.*?>+)', line).groups()
            # from accumulators to factors in half precision: the same registers
            if not ('#mma' in before and 'dot_op' in after and 'f32' not in before):
                found.append([depth, before, after])
        for brace in re.findall('[{}]', re.sub(r'loc\(.*|"[^"]*"|\{[^{}]*\}', '', line)):
            if brace == '{':
                around.append('scf.while' in line or 'scf.for' in line or line.strip().startswith('} do'))
            elif around:
                around.pop()
    return found


def report(launches, capability):
    """Print a line for each launch."""
    for launch in launches:
        sys.stdout.write(json.dumps(described(launch, capability)) + '\n')


if __name__ == '__main__':
    target, part, parts = map(int, sys.argv[1:])
    report(configurations(target)[part::parts], target)
