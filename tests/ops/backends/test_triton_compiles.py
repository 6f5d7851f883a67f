"""Every configuration of the Triton kernels becomes machine code, without a GPU, that spills no register."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from children import run
from compiled_kernels import MARKS, compiled_by, environment

pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')

pytestmark = MARKS

SCRIPT = Path(__file__).with_name('triton_compiler.py')
#: Shared memory that a program can have, bytes (CUDA C++ programming guide, table of compute capabilities).
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10}
#: By tiles, dtype and arithmetic, alignment, bias, and sums or parts of maps. Bands are for sm_90, in half precision.
CONFIGURATIONS = {
    80: {'correlate_rows': 60, 'weight_gradient': 38, 'correlate_maps': 12, 'shift_taps': 3, 'row_sums': 3},
    90: {
        'correlate_rows': 66,
        'weight_gradient': 46,
        'correlate_bands': 18,
        'band_gradient': 8,
        'shift_taps': 3,
        'correlate_maps': 14,
        'row_sums': 5,
    },
}


@pytest.fixture(scope='module')
def compiled():
    """Every configuration, as dicts, by compute capability."""
    return {capability: compiled_by(SCRIPT, capability) for capability in SHARED_MEMORY}


@pytest.mark.parametrize('capability', SHARED_MEMORY)
def test_every_configuration_compiles_without_spills(compiled, capability):
    configurations = compiled[capability]
    assert Counter(c['kernel'] for c in configurations) == CONFIGURATIONS[capability]
    spilling = [c for c in configurations if c['stack'] > 0]
    assert not spilling
    assert max(c['shared'] for c in configurations) <= SHARED_MEMORY[capability]
    products = [c for c in configurations if c['kernel'] not in ('row_sums', 'shift_taps')]
    assert all(c['shared'] > 0 for c in products), 'tensor cores read shared memory'


def test_two_programs_share_a_multiprocessor(compiled):
    """Of four warps; one of eight is as much, where eight hold the addresses of single elements or float32 images."""
    for c in compiled[90]:
        assert c['resident'] * c['num_warps'] >= 8, c
        if c.get('UNIT', 1) > 1 and (c['dtype'] != 'float32' or c['kernel'] != 'correlate_maps'):
            assert c['resident'] >= 2, c


def test_no_barrier_without_products_in_an_innermost_loop(compiled):
    """Those of a weight gradient's diagonals are passed once for all images of a program."""
    for c in compiled[90]:
        for loop in c['loops']:
            if loop['innermost'] and loop['condition'] not in ('start < ROWS', 'first < W'):
                assert not loop['barriers'] or loop['products'], (c, loop)


def test_no_conversion_of_a_layout_in_a_loop_of_products(compiled):
    """Neither of integers or predicates nor of a sum; a weight gradient's goes to its diagonals once a segment."""
    for c in compiled[90]:
        if c['kernel'] in ('correlate_rows', 'correlate_bands', 'correlate_maps'):
            assert not c['conversions'], c
        for depth, before, _ in c['conversions']:
            vector = before.split(',')[0].count('x') == 1
            assert vector or (depth == 1 and 'xf32' in before) or c['UNIT'] == 1, (c, before)


def loop_of(configuration, condition):
    return next(loop for loop in configuration['loops'] if loop['condition'] == condition)


def only(configurations, **wanted):
    found = [c for c in configurations if all(c.get(name) == value for name, value in wanted.items())]
    assert found, wanted
    return found


#: Segments of K = 51 that take a tail, of all.
TAILS = 8 / 13


@pytest.mark.parametrize(
    ('kernel', 'constants', 'most', 'barriers'),
    [
        ('correlate_bands', {'WHOLE': True, 'BLOCK_N': 64}, 200, 2),
        ('correlate_bands', {'WHOLE': False, 'BLOCK_N': 64}, 270, 4),
        ('correlate_bands', {'WHOLE': False, 'BLOCK_N': 128}, 285, 4),
    ],
    ids=str,
)
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_a_segment_by_bands(compiled, kernel, constants, most, barriers, dtype):
    """Instructions and barriers for each segment and block of sources, 16 bytes at a time."""
    for c in only(compiled[90], kernel=kernel, dtype=dtype, UNIT=8, **constants):
        loop = loop_of(c, 'a < R')
        tail = {'instructions': 0, 'barriers': 0} if constants['WHOLE'] else loop_of(c, 'tail < size - 1')
        assert loop['instructions'] + TAILS * tail['instructions'] <= most
        assert loop['barriers'] + tail['barriers'] <= barriers
        assert not loop['loads of 2 bytes']
        assert not {'size > 0', 'size >= SUM_ROWS'} & {each['condition'] for each in c['loops']}


@pytest.mark.parametrize('whole', [True, False])
def test_an_image_in_the_gradient_by_bands(compiled, whole):
    for c in only(compiled[90], kernel='band_gradient', UNIT=8, WHOLE=whole):
        product, around = (loop_of(c, name) for name in ('column_block < column_blocks', 'block < last_block'))
        assert product['instructions'] <= 130
        assert product['instructions'] + around['instructions'] <= 235
        assert product['barriers'] <= 4
        assert not product['loads of 2 bytes']


def test_taps_of_rows_are_read_16_bytes_at_a_time(compiled):
    for c in only(compiled[90], kernel='correlate_rows'):
        assert not loop_of(c, 'a < R')['loads of 2 bytes']
        assert c['UNIT'] == 1 or not loop_of(c, 'size > 0')['loads of 2 bytes']
    for c in only(compiled[90], kernel='correlate_rows', dtype='bfloat16', BLOCK_N=64, UNIT=8):
        assert loop_of(c, 'a < R')['instructions'] <= 150
        assert loop_of(c, 'a < R')['barriers'] <= 4


def test_rows_in_float32(compiled):
    """Four warps: the sum stays in its layout."""
    for c in only(compiled[90], kernel='correlate_rows', dtype='float32', BLOCK_N=64):
        assert c['num_warps'] == 4
        assert loop_of(c, 'a < R')['barriers'] <= 2
        assert loop_of(c, 'size > 0')['instructions'] <= 80
        assert loop_of(c, 'size > 0')['barriers'] == 0


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


def test_a_call_is_compiled_before_it(tmp_path):
    done = run([sys.executable, '-c', PRETENDED], env=environment() | {'TRITON_CACHE_DIR': str(tmp_path)})
    assert done.returncode == 0, done.stderr
    # with the bias and without, and the taps and the gradient that both need
    names = sorted(path.stem for path in tmp_path.rglob('*.cubin'))
    assert names == ['band_gradient', 'correlate_bands', 'correlate_bands', 'shift_taps']
