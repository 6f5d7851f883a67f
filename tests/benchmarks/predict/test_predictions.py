"""The model against kernels that were counted by hand, and what it says of the present ones."""

import json
import sys
from pathlib import Path

import pytest
from children import run
from compiled_kernels import MARKS, environment

pytest.importorskip('triton', '3.0', 'Triton 3.0 is not installed')

pytestmark = MARKS

#: Copies of the kernels of 1daaa60 by hand.
BY_HAND = {'a_forward': 30, 'a_weight_gradient': 74, 'b_forward': 195, 'd_forward': 66}
#: The most copies that the kernels may be predicted to take.
MOST = {'a_forward': 9, 'a_weight_gradient': 20, 'a_fp16_forward': 9, 'b_forward': 30, 'd_forward': 25}
#: Milliseconds of a PeLK-T without its convolutions, with the layer of 1daaa60, by hand.
NET_BY_HAND = {'evaluation': 17.6, 'training': 53.8}


@pytest.fixture(scope='module')
def predicted():
    done = run([sys.executable, Path(__file__).with_name('predicting.py')], env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize('name', BY_HAND)
def test_kernels_that_were_counted_by_hand(predicted, name):
    assert predicted['earlier'][name] == pytest.approx(BY_HAND[name], rel=0.15)


@pytest.mark.parametrize('name', MOST)
def test_the_kernels_keep_their_budgets(predicted, name):
    assert predicted['figures']['copies'][name] <= MOST[name]


@pytest.mark.parametrize('mode', NET_BY_HAND)
def test_a_net_that_was_counted_by_hand(predicted, mode):
    items = predicted['items'][mode]
    others = sum(seconds for name, seconds in items.items() if 'convolution' not in name)
    assert 1e3 * others == pytest.approx(NET_BY_HAND[mode], rel=0.1)


def test_every_figure_says_that_it_is_predicted(predicted):
    assert predicted['figures']['predicted'] is True
    tables = [line for line in predicted['page'].splitlines() if line.startswith('| ') and 'sm_' not in line]
    in_code = predicted['page'].index('## Machine code')
    for line in tables:
        if predicted['page'].index(line) < in_code and not set(line) <= set('| -:'):
            assert line.startswith('| predicted'), line


def test_each_step_of_the_layer_helps(predicted):
    for mode in ('evaluation', 'training'):
        ratios = [step[mode] for step in predicted['steps'].values()]
        assert ratios == sorted(ratios, reverse=True)


def test_a_range_stands_beside_every_figure(predicted):
    figures = predicted['figures']
    for kind in ('copies', 'net_ratio'):
        for name, value in figures[kind].items():
            low, high = figures['ranges'][kind][name]
            assert low < value < high
