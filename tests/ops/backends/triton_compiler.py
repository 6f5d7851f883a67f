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

FLOATS = {'float32': 'fp32', 'float16': 'fp16', 'bfloat16': 'bf16'}
TABLES = {'row_table': '*i32', 'column_table': '*i32', 'scale_table': '*fp32', 'shares': '*fp32', 'sums': '*fp32'}


def configurations(capability=90):
    """(kernel name, tiles, dtype, constants) of every launch; below 90 the extremes of the alignments only."""
    import torch

    from pelk_mm.ops.backends import triton_launch as launch
    from pelk_mm.ops.backends.triton_operands import units
    from pelk_mm.ops.backends.triton_support import DTYPES

    kept = torch.get_float32_matmul_precision()
    found = []
    aligned = [(dtype, unit) for dtype in DTYPES for unit in units(dtype)]
    if capability < 90:
        aligned = [(dtype, unit) for dtype, unit in aligned if unit in (units(dtype)[0], 1)]
    for dtype, unit in aligned:
        name = str(dtype).removeprefix('torch.')
        biases = ({'HAS_BIAS': False}, {'HAS_BIAS': True})
        sums = ({'SUM_ROWS': 0}, {'SUM_ROWS': launch.SUM_ROWS})[:unit]  # of one element at a time: never
        kernels = {
            'correlate_rows': (launch.ROW_TILES.values(), biases, sums),
            'correlate_maps': ([launch.MAP_TILES], biases, ({},)),
            'weight_gradient': (launch.GRADIENT_TILES.values(), ({},), sums),
        }
        if len(sums) > 1:
            found.append(('row_sums', name, {'UNIT': unit, **sums[1], **launch.SUM_TILES}))
        for kernel, (tilings, *choices) in kernels.items():
            for tiles, *chosen in product(tilings, *choices):
                for precision in ('highest', 'high') if dtype == torch.float32 else ('highest',):
                    torch.set_float32_matmul_precision(precision)
                    constants = launch.constants(tiles, dtype) | {'UNIT': unit}
                    found.append((kernel, name, constants | chosen[0] | chosen[1]))
    torch.set_float32_matmul_precision(kept)
    return found


def resources(kernel, dtype, constants, capability):
    """Registers, bytes of stack (spills live there) and of shared memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pelk_mm.ops.backends import triton_kernels

    function = getattr(triton_kernels, kernel)
    names = function.arg_names
    options = {name: constants[name] for name in ('num_warps', 'num_stages', 'maxnreg') if name in constants}
    constants = {name: value for name, value in constants.items() if name in names}
    signature = {
        name: 'constexpr'
        if name in constants
        else f'*{FLOATS[dtype]}'
        if name in triton_kernels.TENSORS - set(TABLES)
        else TABLES.get(name, 'i32')
        for name in names
    }
    aligned = {(i,): [['tt.divisibility', 16]] for i, name in enumerate(names) if signature[name].startswith('*')}
    source = ASTSource(function, signature, {(names.index(k),): v for k, v in constants.items()}, aligned)
    compiled = triton.compile(source, target=GPUTarget('cuda', capability, 32), options=options)
    tool = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(compiled.asm['cubin'])
        file.flush()
        report = subprocess.run([tool, '-res-usage', file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r'REG:(\d+) STACK:(\d+)', report).groups()
    return {'registers': int(registers), 'stack': int(stack), 'shared': compiled.metadata.shared}


if __name__ == '__main__':
    target, part, parts = map(int, sys.argv[1:])
    for kernel, dtype, constants in configurations(target)[part::parts]:
        found = resources(kernel, dtype, constants, target)
        sys.stdout.write(json.dumps({'kernel': kernel, 'dtype': dtype, **constants, **found}) + '\n')
