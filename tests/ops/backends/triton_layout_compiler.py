"""Compiles every configuration of the layout kernels; prints what each takes, as JSON lines.

Run as a program, apart from tests that interpret the kernels: python triton_layout_compiler.py CAPABILITY PART PARTS
"""

import sys

import torch
from triton_compiler import report

from pelk_mm.ops.backends import triton_layout
from pelk_mm.ops.backends.triton_start import Hardware, planned

FLOAT32, FLOAT16, BFLOAT16 = torch.float32, torch.float16, torch.bfloat16
#: Dtypes of rows and of planes: under autocast, and without.
DTYPES = {
    80: [(FLOAT32, BFLOAT16), (FLOAT32, FLOAT32)],
    90: [(FLOAT32, BFLOAT16), (FLOAT32, FLOAT32), (FLOAT16, FLOAT16)],
}


def configurations(capability):
    """A launch of each, in evaluation and in training, with all gradients and with those of frozen weights."""
    found = {}
    for rows, planes in DTYPES[capability]:
        for channels in triton_layout.NORM_TILES:
            x = torch.empty(2, channels, 7, 9, dtype=rows, device='meta').contiguous(memory_format=torch.channels_last)
            mixed = torch.empty(2, channels // 3, 7, 9, dtype=planes, device='meta')
            passed, weight = x[:, channels // 3 :], torch.empty(channels, dtype=rows, device='meta')
            with planned(Hardware(divmod(capability, 10), 132)) as launches:
                triton_layout.to_planes(x, mixed.shape[1], planes)
                triton_layout.open_block_backward(mixed, passed, x, x.shape, mixed.shape[1], rows)
                for statistics in (False, True):
                    y, mean, rstd = triton_layout.join_norm(
                        mixed, passed, weight, weight, 1e-6, planes, channels, statistics
                    )
                for trained in (False, True):
                    mask = (True, True, trained, trained)
                    triton_layout.join_norm_backward(y, mixed, passed, weight, mean, rstd, mask)
            for launch in launches:
                found.setdefault((launch.kernel.fn.__name__, rows, planes, *launch.options.values()), launch)
    return list(found.values())


if __name__ == '__main__':
    target, part, parts = map(int, sys.argv[1:])
    report(configurations(target)[part::parts], target)
