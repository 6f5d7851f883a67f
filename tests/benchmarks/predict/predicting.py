"""Predicts and counts, apart from tests that interpret the kernels; prints JSON: python predicting.py"""

import json
import sys

import kernels_of_1daaa60 as earlier
import torch

from pelk_mm.benchmarks.predict import report
from pelk_mm.benchmarks.predict.net import CONVNEXT, Layer, net_items, net_ratio
from pelk_mm.benchmarks.predict.ops import launch_seconds
from pelk_mm.benchmarks.predict.passes import Passes
from pelk_mm.ops import SharingGrid
from pelk_mm.ops.backends.triton_start import Launch

TABLES = {'row_table': torch.int32, 'column_table': torch.int32, 'scale_table': torch.float32}
ROWS = {'UNIT': 4, 'BLOCK_M': 64, 'BLOCK_N': 64, 'BLOCK_K': 32, 'PRECISION': 'ieee', 'num_warps': 8}
GRADIENT = ROWS | {'BLOCK_M': 32, 'BLOCK_K': 64, 'SUM_ROWS': 0}
COMPILED = {'num_stages': 1, 'maxnreg': 255}
#: Kernel, programs, constants, what the passes follow from; its K.
EARLIER = {
    'a_forward': [('correlate_rows', 2576, ROWS | {'HAS_BIAS': False, 'SUM_ROWS': 0}, {'chunks': 2})],
    'a_weight_gradient': [('weight_gradient', 1748, GRADIENT, {'line_blocks': 3})],
    'b_forward': [
        ('row_sums', 3472, {'UNIT': 4, 'SUM_ROWS': 8, 'BLOCK_M': 16, 'BLOCK_N': 64, 'num_warps': 4}, {}),
        ('correlate_rows', 1488, ROWS | {'HAS_BIAS': False, 'SUM_ROWS': 8}, {'chunks': 6}),
    ],
    'd_forward': [('correlate_rows', 1932, ROWS | {'HAS_BIAS': False, 'SUM_ROWS': 0}, {'chunks': 4})],
}


def earlier_copies(name: str) -> float:
    """Copies that the kernels of 1daaa60 take."""
    case = report.CASES[name[0]]
    sizes = SharingGrid(case.sizes).sizes
    seconds = 0.0
    for kernel, programs, constants, numbers in EARLIER[name]:
        function = getattr(earlier, kernel)
        together = constants['SUM_ROWS']
        passes = {
            'chunk < chunks': Passes([numbers.get('chunks', 0)]),
            'a < R': Passes([len(sizes)]),
            'size > 0': Passes([size % together if together else size for size in sizes]),
            'size >= SUM_ROWS': Passes([size // 8 for size in sizes]),
            'block < line_blocks': Passes([numbers.get('line_blocks', 0)]),
            'column_block < column_blocks': Passes([1]),
            'b < S': Passes([len(sizes)]),
            'first < W': Passes([-(-case.shape[3] // 64)]),
        }
        arguments = {
            name: torch.empty(0, dtype=dtype_of(name, together), device='meta') if name in earlier.TENSORS else 0
            for name in function.arg_names
            if name not in constants
        }
        seconds += launch_seconds(Launch(function, programs, arguments, constants | COMPILED), passes)[0]
    return seconds / case.copy_seconds


def dtype_of(name: str, together: int) -> torch.dtype:
    """Of a tensor argument."""
    in_float32 = name == 'shares' or (name == 'sums' and together > 0)
    return TABLES.get(name, torch.float32 if in_float32 else torch.bfloat16)


if __name__ == '__main__':
    found = report.predictions()
    steps = {name: {mode: net_ratio(mode, layer) for mode in CONVNEXT} for name, layer in report.STEPS.items()}
    written = {
        'earlier': {name: earlier_copies(name) for name in EARLIER},
        'figures': report.as_json(found, {}, {}),
        'steps': steps,
        'items': {mode: net_items(mode, Layer()) for mode in CONVNEXT},
        'page': report.page(found, {}, 'command', 'versions'),
    }
    sys.stdout.write(json.dumps(written))
