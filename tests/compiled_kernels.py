"""Kernels compiled for a GPU that is not there, in processes apart from tests that interpret them."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import pytest
from children import LIMIT, started

PROJECT = Path(__file__).parents[1]
PROCESSES = 2
#: The Triton of requirements.txt's torch. Another one spends registers and lays out tensors otherwise.
COMPILER = '3.6'
#: Of every file of tests that compile.
MARKS = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != 'linux', reason='Triton compiles for CUDA on Linux alone'),
]


def environment():
    """Of a process in which kernels are compiled."""
    kept = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    return kept | {'PYTHONPATH': str(PROJECT)}


def compiled_by(script, capability):
    """What a script prints of each configuration, as dicts: it takes CAPABILITY PART PARTS."""
    version = metadata.version('triton')
    if not version.startswith(f'{COMPILER}.'):
        pytest.skip(f'what is expected of machine code is that of Triton {COMPILER}, this is {version}')
    options = {'env': environment(), 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started([sys.executable, script, capability, part, PROCESSES], **options))
            for part in range(PROCESSES)
        ]
        outputs = [process.communicate(timeout=LIMIT) for process in processes]
    for process, (_, error) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, error[-3000:]
    return [json.loads(line) for output, _ in outputs for line in output.splitlines()]
