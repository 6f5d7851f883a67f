"""Every configuration of the Triton kernels becomes machine code, without a GPU, that spills no register."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from children import LIMIT, started

pytest.importorskip('triton', reason='triton is not installed')

pytestmark = [pytest.mark.slow, pytest.mark.processes]

SCRIPT = Path(__file__).with_name('triton_compiler.py')
#: Shared memory that a program can have, bytes (CUDA C++ programming guide, table of compute capabilities).
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10}
PROCESSES = 2


@pytest.mark.skipif(sys.platform != 'linux', reason='Triton compiles for CUDA on Linux alone')
@pytest.mark.parametrize('capability', SHARED_MEMORY)
def test_every_configuration_compiles_without_spills(capability):
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    environment['PYTHONPATH'] = str(SCRIPT.parents[3])
    options = {'env': environment, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    with ExitStack() as stack:
        runs = [
            stack.enter_context(started([sys.executable, SCRIPT, capability, part, PROCESSES], **options))
            for part in range(PROCESSES)
        ]
        outputs = [run.communicate(timeout=LIMIT) for run in runs]
    for run, (_, error) in zip(runs, outputs, strict=True):
        assert run.returncode == 0, error[-3000:]
    configurations = [json.loads(line) for output, _ in outputs for line in output.splitlines()]
    # rows: 3 tilings by bias; maps: 1 by bias; gradient: 3; all by alignment, unless unaligned with sums or without:
    # float32, in two arithmetics, by three alignments, half precision by four, on sm_80 by two; and row_sums
    with_sums, maps = 3 * 2 + 3, 2
    alignments = {80: (2, 2), 90: (3, 4)}[capability]
    counts = [(with_sums * (2 * number - 1) + maps * number) * 2 for number in alignments]
    assert len(configurations) == sum(counts) + sum(number - 1 for number in (alignments[0], *alignments[1:] * 2))
    spilling = [c for c in configurations if c['stack'] > 0]
    assert not spilling
    assert max(c['shared'] for c in configurations) <= SHARED_MEMORY[capability]
    assert all(c['shared'] > 0 for c in configurations if c['kernel'] != 'row_sums'), 'tensor cores read shared memory'
