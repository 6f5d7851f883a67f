"""Compiles every configuration of the Triton kernels that a launch can choose; prints what each takes, as JSON lines.

Run as a program, apart from tests that interpret the kernels: python triton_compiler.py CAPABILITY PART PARTS
"""

import json
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import torch

from pelk_mm.ops import SharingGrid
from pelk_mm.ops.backends import triton_launch
from pelk_mm.ops.backends.triton_operands import units
from pelk_mm.ops.backends.triton_start import Hardware, planned
from pelk_mm.ops.backends.triton_support import DTYPES
from pelk_mm.ops.backends.triton_tables import tables_of

TYPES = {torch.float32: '*fp32', torch.float16: '*fp16', torch.bfloat16: '*bf16', torch.int32: '*i32'}
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
    """A launch of each; of bfloat16 on sm_90 at every alignment, otherwise at the largest and the smallest."""
    meta = torch.device('meta')
    found = {}
    kept = torch.get_float32_matmul_precision()
    for dtype in DTYPES:
        alignments = units(dtype)
        if dtype != torch.bfloat16 or capability < 90:
            alignments = [alignments[0], 1]
        shapes = [(1, *size) for unit in alignments for size in SIZES[unit]]
        shapes += [(64, *WHOLE[unit]) for unit in alignments]
        precisions = ('highest', 'high') if dtype == torch.float32 else ('highest',)
        for (n, *size), segments, has_bias, precision in product(shapes, GRIDS, (False, True), precisions):
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


def type_of(value):
    """A kernel's argument in Triton's terms."""
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return 'fp32' if isinstance(value, float) else 'i32'


def resources(launch, capability):
    """Registers, bytes of stack (spills live there) and of shared memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = launch.kernel.arg_names
    constants = {name: value for name, value in launch.options.items() if name in names}
    options = {name: value for name, value in launch.options.items() if name not in names}
    types = {name: type_of(value) for name, value in launch.arguments.items()}
    signature = {name: types.get(name, 'constexpr') for name in names}
    aligned = {
        (parameter.num,): [['tt.divisibility', 16]]
        for parameter in launch.kernel.params
        if types.get(parameter.name, '').startswith('*') and not parameter.do_not_specialize
    }
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(launch.kernel, signature, values, aligned)
    compiled = triton.compile(source, target=GPUTarget('cuda', capability, 32), options=options)
    tool = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(compiled.asm['cubin'])
        file.flush()
        report = subprocess.run([tool, '-res-usage', file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r'REG:(\d+) STACK:(\d+)', report).groups()
    return {'registers': int(registers), 'stack': int(stack), 'shared': compiled.metadata.shared}


def report(launches, capability):
    """Print a line for each launch."""
    for launch in launches:
        found = resources(launch, capability)
        dtype = str(launch.arguments[launch.kernel.arg_names[0]].dtype).removeprefix('torch.')
        line = {'kernel': launch.kernel.fn.__name__, 'dtype': dtype, **launch.options, **found}
        sys.stdout.write(json.dumps(line) + '\n')


if __name__ == '__main__':
    target, part, parts = map(int, sys.argv[1:])
    report(configurations(target)[part::parts], target)
