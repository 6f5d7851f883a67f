"""Every configuration of the layout kernels becomes machine code, without a GPU, that spills no register."""

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from children import LIMIT, started

pytest.importorskip('triton', reason='triton is not installed')

pytestmark = [pytest.mark.slow, pytest.mark.processes]

SCRIPT = Path(__file__).with_name('triton_layout_compiler.py')
PROCESSES = 2
#: By pairs of dtypes: five tiles in evaluation and in training; of the gradients, four with frozen weights as well.
KERNELS = {'to_planes': 1, 'open_block_gradient': 1, 'join_norm': 10, 'join_norm_gradients': 9}


@pytest.mark.skipif(sys.platform != 'linux', reason='Triton compiles for CUDA on Linux alone')
@pytest.mark.parametrize(('capability', 'pairs'), [(80, 2), (90, 3)])
def test_every_configuration_compiles_without_spills(capability, pairs):
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    environment['PYTHONPATH'] = os.pathsep.join(map(str, (SCRIPT.parents[3], SCRIPT.parent)))
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
    assert Counter(c['kernel'] for c in configurations) == {name: pairs * number for name, number in KERNELS.items()}
    assert not [c for c in configurations if c['stack'] > 0]
    # what is transposed goes through shared memory: read and written as it lies on both sides
    assert all(0 < c['shared'] <= 64 << 10 for c in configurations)
