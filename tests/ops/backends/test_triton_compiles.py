"""Every configuration of the Triton kernels becomes machine code, without a GPU, that spills no register."""

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from children import LIMIT, run, started

pytest.importorskip('triton', reason='triton is not installed')

pytestmark = [pytest.mark.slow, pytest.mark.processes]

SCRIPT = Path(__file__).with_name('triton_compiler.py')
#: Shared memory that a program can have, bytes (CUDA C++ programming guide, table of compute capabilities).
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10}
PROCESSES = 2
#: By tiles, dtype and arithmetic, alignment, bias, and sums or parts of maps. Bands are for sm_90, in half precision.
CONFIGURATIONS = {
    80: {'correlate_rows': 72, 'weight_gradient': 38, 'correlate_maps': 16, 'row_sums': 3},
    90: {
        'correlate_rows': 88,
        'weight_gradient': 46,
        'correlate_bands': 24,
        'band_gradient': 8,
        'shift_taps': 2,
        'correlate_maps': 20,
        'row_sums': 5,
    },
}


@pytest.mark.skipif(sys.platform != 'linux', reason='Triton compiles for CUDA on Linux alone')
@pytest.mark.parametrize('capability', SHARED_MEMORY)
def test_every_configuration_compiles_without_spills(capability):
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    environment['PYTHONPATH'] = str(SCRIPT.parents[3])
    options = {'env': environment, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started([sys.executable, SCRIPT, capability, part, PROCESSES], **options))
            for part in range(PROCESSES)
        ]
        outputs = [process.communicate(timeout=LIMIT) for process in processes]
    for process, (_, error) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, error[-3000:]
    configurations = [json.loads(line) for output, _ in outputs for line in output.splitlines()]
    assert Counter(c['kernel'] for c in configurations) == CONFIGURATIONS[capability]
    spilling = [c for c in configurations if c['stack'] > 0]
    assert not spilling
    assert max(c['shared'] for c in configurations) <= SHARED_MEMORY[capability]
    assert all(c['shared'] > 0 for c in configurations if c['kernel'] not in ('row_sums', 'shift_taps')), (
        'tensor cores read shared memory'
    )


#: A driver of a GPU that is not there: enough to compile for it.
PRETENDED = """
import contextlib, torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from pelk_mm.ops.backends import triton_start, triton_support

class Driver:
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)
    get_current_target = staticmethod(lambda: GPUTarget('cuda', 90, 32))

driver.set_active(Driver())
torch.cuda.device = contextlib.nullcontext
triton_start._cuda_hardware = lambda device: triton_start.Hardware((9, 0), 132)
segments = (2, 1, 2)
assert triton_support.compile_refusal(0, torch.bfloat16, (2, 3, 40, 56), segments, segments, True, True) is None
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='Triton compiles for CUDA on Linux alone')
def test_a_call_is_compiled_before_it(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    environment |= {'PYTHONPATH': str(SCRIPT.parents[3]), 'TRITON_CACHE_DIR': str(tmp_path)}
    done = run([sys.executable, '-c', PRETENDED], env=environment)
    assert done.returncode == 0, done.stderr
    # with the bias and without, and the taps and the gradient that both need
    names = sorted(path.stem for path in tmp_path.rglob('*.cubin'))
    assert names == ['band_gradient', 'correlate_bands', 'correlate_bands', 'shift_taps']
