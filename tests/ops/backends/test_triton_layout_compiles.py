"""Every configuration of the layout kernels becomes machine code, without a GPU, that spills no register."""

from collections import Counter
from pathlib import Path

import pytest
from compiled_kernels import MARKS, compiled_by

pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')

pytestmark = MARKS

SCRIPT = Path(__file__).with_name('triton_layout_compiler.py')
#: By pairs of dtypes: five tiles in evaluation and in training; of the gradients, four with frozen weights as well.
KERNELS = {'to_planes': 1, 'open_block_gradient': 1, 'join_norm': 10, 'join_norm_gradients': 9}


@pytest.mark.parametrize(('capability', 'pairs'), [(80, 2), (90, 3)])
def test_every_configuration_compiles_without_spills(capability, pairs):
    configurations = compiled_by(SCRIPT, capability)
    assert Counter(c['kernel'] for c in configurations) == {name: pairs * number for name, number in KERNELS.items()}
    assert not [c for c in configurations if c['stack'] > 0]
    # what is transposed goes through shared memory: read and written as it lies on both sides
    assert all(0 < c['shared'] <= 64 << 10 for c in configurations)
