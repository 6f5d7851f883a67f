"""The table of docs/nets/choosing.md."""

from pathlib import Path

import pytest
import torch

from pelk_mm.benchmarks import harness
from pelk_mm.benchmarks.harness import Measured, Timing
from pelk_mm.benchmarks.zoo import choice
from pelk_mm.benchmarks.zoo.choice import CHOICES, render_choice, step, time_choices
from pelk_mm.benchmarks.zoo.forms import deployed
from pelk_mm.benchmarks.zoo.table import ENTRIES, Counts
from pelk_mm.models import UniConvNet, UniRepLKNet

SPECK = {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}
SETTING = {'size': 32, 'batch': 2, 'train_batch': 3, 'device': 'cpu', 'repeats': 1}


@pytest.fixture
def small(monkeypatch):
    nets = {'UniRepLKNet-T': lambda: UniRepLKNet(SPECK), 'UniConvNet-T': lambda: UniConvNet(SPECK, group_width=4)}
    monkeypatch.setattr(harness, 'SAMPLE_SECONDS', 0.0)
    monkeypatch.setattr(choice, 'cache_bytes', lambda device: 0)
    monkeypatch.setattr(choice, 'build_backbone', lambda folder, entry: nets[entry.name]())


def test_every_net_is_in_the_zoo_with_its_accuracy():
    top1 = {entry.name: entry.top1 for entry in ENTRIES}
    assert [name for name in (net.name for net in CHOICES) if top1.get(name) is None] == []
    assert len({net.name for net in CHOICES}) == len(CHOICES) == 10


def test_both_forms_are_timed(small):
    names = ['UniRepLKNet-T', 'UniConvNet-T']
    result = time_choices(Path('configs'), names, **SETTING)
    assert not result.skipped
    assert [t.name for t in result.timings] == [form(name) for name in names for form in (deployed, step)]
    kept = {t.name: t.kept_bytes for t in result.timings}
    assert all((kept[step(name)] or 0) > 0 and kept[deployed(name)] is None for name in names)
    assert torch.is_grad_enabled()


def test_a_net_that_cannot_be_built_is_named(small):
    result = time_choices(Path('configs'), ['UniRepLKNet-T', 'SLaK-T'], **SETTING)
    assert [t.name for t in result.timings] == [deployed('UniRepLKNet-T'), step('UniRepLKNet-T')]
    assert 'KeyError' in result.skipped['SLaK-T']


def test_table():
    counts = {name: Counts(31_690_000, 4_910_000_000) for name in ('ConvNeXt-T', 'OverLoCK-T', 'UniConvNet-T')}
    seconds = {
        deployed('ConvNeXt-T'): 0.5,
        step('ConvNeXt-T'): 1.0,
        deployed('OverLoCK-T'): 1.0,
        step('OverLoCK-T'): 3.0,
    }
    kept = 2 * 2**20
    timings = [Timing(name, s, s, s, 5, kept_bytes=kept if 'training' in name else None) for name, s in seconds.items()]
    table = render_choice(counts, Measured(timings, {'UniConvNet-T': 'no room'}), batch=4, train_batch=2)
    rows = {
        line.split('|')[1].strip(): [cell.strip() for cell in line.split('|')[2:-1]] for line in table.splitlines()[2:5]
    }
    assert list(rows) == ['ConvNeXt-T', 'OverLoCK-T', 'UniConvNet-T']
    assert rows['OverLoCK-T'][1:8] == [
        '50.3',
        '49.6 / 43.9 (Mask R-CNN)',
        '31.7',
        '4.91',
        '4.00 (2.00 times the time)',
        '0.667 (3.00 times the time)',
        '1.00',
    ]
    assert rows['UniConvNet-T'][5:8] == ['-', '-', '-']
    assert table.endswith('- UniConvNet-T is not timed: no room')


@pytest.mark.parametrize('wrong', [{'batch': 0}, {'train_batch': 0}, {'size': 31}, {'repeats': 0}])
def test_bad_arguments(wrong):
    with pytest.raises(ValueError, match='must be at least'):
        time_choices(Path('configs'), ['UniRepLKNet-T'], **SETTING | wrong)
