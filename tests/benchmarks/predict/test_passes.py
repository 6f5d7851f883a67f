"""Passes of loops, against the pixels that the kernels' blocks meet one by one."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from pelk_mm.benchmarks.predict.machine_code import machine_code
from pelk_mm.benchmarks.predict.ops import Case, launches_of
from pelk_mm.benchmarks.predict.passes import Passes, passes_of
from pelk_mm.ops.backends.triton_start import Hardware, Launch
from pelk_mm.ops.segments import reachable
from pelk_mm.utils.errors import ConfigError

pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')

CASES = [
    Case.of((64, 46, 56, 56), 51),
    Case.of((8, 62, 96, 96), 101, 7),
    Case.of((2, 46, 200, 336), 51),
    Case.of((2, 8, 70, 140), 101, 7),
    Case.of((2, 8, 40, 84), 51, dtype=torch.float32),
]


def launch_of(case, gradient):
    """The convolution's own launch, without tables and sums."""
    launches, _ = launches_of(case, gradient, Hardware((9, 0), 132))
    return launches[-1], {**launches[-1].arguments, **launches[-1].options}


def lead_of(launch, given):
    return given['lead_units'] * (given['UNIT'] if 'rows' in launch.kernel.fn.__name__ else 8)


@pytest.mark.parametrize('case', CASES, ids=str)
def test_blocks_of_sources_on_the_map(case):
    launch, given = launch_of(case, gradient=False)
    width, lead = case.shape[3], lead_of(launch, given)
    met = 0
    for block, chunk in itertools.product(range(given['column_blocks']), range(given['chunks'])):
        first = block * given['BLOCK_N'] - lead + chunk * given['BLOCK_K']
        met += first < width and first + given['BLOCK_K'] > 0
    passes = passes_of(launch, reachable(case.sizes, case.shape[2]).sizes)
    assert passes['chunk < chunks'].of(1) == pytest.approx(met / given['column_blocks'])


@pytest.mark.parametrize('case', CASES, ids=str)
def test_pairs_of_blocks_in_a_gradient(case):
    launch, given = launch_of(case, gradient=True)
    lead = given['lead_units'] * (8 if launch.kernel.fn.__name__ == 'band_gradient' else given['UNIT'])
    met = 0
    for block, chunk in itertools.product(range(given['column_blocks']), range(given['chunks'])):
        first = block * given['BLOCK_N'] - lead + chunk * given['BLOCK_K']
        met += first < case.shape[3] and first + given['BLOCK_K'] > 0
    rows = reachable(case.sizes, case.shape[2]).sizes
    passes = passes_of(launch, rows)
    assert passes['column_block < column_blocks'].of(1) == pytest.approx(met / given['chunks'])
    # every image's lines in some block, none left out
    lines = case.shape[0] * case.shape[2]
    name = 'block < last_block' if 'blocks_each' in given else 'block < line_blocks'
    parts = launch.programs // (case.shape[1] * given['chunks'])
    assert parts * passes[name].of(1) * given['BLOCK_M'] >= lines


def test_an_unrolled_loop_leaves_the_remainder_to_another():
    passes = Passes([9, 8, 4, 2, 1], loads=1)
    assert passes.of(1) * 5 == 24
    assert passes.of(4) * 5 == 2 + 2 + 1


@pytest.mark.skipif(torch.cuda.is_available(), reason='kernels are compiled where there is a GPU')
def test_interpreted_kernels_have_no_machine_code():
    launch, _ = launch_of(CASES[0], gradient=False)
    with pytest.raises(ConfigError, match='interpreted, not compiled, under TRITON_INTERPRET=1: unset it'):
        machine_code(launch, (9, 0))


def test_a_kernel_that_is_not_described():
    launch, _ = launch_of(CASES[0], gradient=False)
    other = SimpleNamespace(fn=SimpleNamespace(__name__='other'))
    with pytest.raises(ValueError, match="must be of one of the kernels correlate_rows, .*, but got 'other'"):
        passes_of(Launch(other, 1, {}, launch.options), (1,))
