"""What a sample looks like depends on the seed and on its place in the run alone."""

import pickle
import random

import numpy as np
import pytest
import torch
from exact_task import ExactData
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, IterableDataset

from pelk_mm.engine.runner.random_state import get_random_state, seeded, set_random_state
from pelk_mm.engine.runner.repeatable_data import EndlessBatches, SeededSamples, make_repeatable, start_pass
from pelk_mm.utils.errors import DataError


def draw():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()


def loader(sampler=DefaultSampler, size=10, workers=0, seed=0, **options):
    data = ExactData(size)
    plain = DataLoader(data, 3, sampler=sampler(data, shuffle=True, seed=5), num_workers=workers, **options)
    return make_repeatable(plain, seed)


def values(batches):
    return [batch['x'].tolist() for batch in batches]


class DamagedData(ExactData):
    """Every image ends early."""

    def __getitem__(self, index):
        raise OSError('image file is truncated\nand more')

    def get_data_info(self, index):
        return {'img_path': f'img/{index}.jpg'}


@pytest.mark.parametrize('workers', [0, 2])
def test_sample_that_cannot_be_read_is_one_line_that_names_its_image(workers):
    data = DamagedData(4)
    batches = EndlessBatches(make_repeatable(DataLoader(data, 2, num_workers=workers), 0))
    with pytest.raises(DataError) as caught:
        next(batches)
    expected = 'training sample 0 (img/0.jpg) cannot be read: OSError: image file is truncated'
    assert str(caught.value) == expected


def set_ranks(monkeypatch, rank, processes):
    for module in ('mmengine.dataset.sampler.get_dist_info',):
        monkeypatch.setattr(module, lambda: (rank, processes))
    monkeypatch.setattr('pelk_mm.engine.runner.repeatable_data.get_rank', lambda: rank)
    monkeypatch.setattr('pelk_mm.engine.runner.repeatable_data.get_world_size', lambda: processes)


def test_random_state_goes_round_through_a_safe_file(tmp_path):
    random.gauss(0, 1), np.random.randn()  # half of a pair is kept for the next call
    torch.save(get_random_state(), tmp_path / 'state.pth')
    expected = draw()
    assert draw() != expected
    set_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert draw() == expected


def test_seeded_leaves_no_trace():
    before = get_random_state()
    with seeded((1, 2)):
        first = draw()
    with seeded((2, 1)):
        other = draw()
    with pytest.raises(KeyError), seeded((1, 2)):
        raise KeyError
    with seeded((1, 2)):
        assert draw() == first
    assert all(a != b for a, b in zip(first, other, strict=True))
    expected = draw()
    set_random_state(before)
    assert draw() == expected


def test_samples_do_not_depend_on_the_process_that_reads_them():
    expected = values(start_pass(loader(), 0, 0))
    draw()
    state = get_random_state()
    assert values(start_pass(loader(), 0, 0)) == expected
    assert values(start_pass(loader(workers=2), 0, 0)) == expected
    after = get_random_state()
    assert all(np.array_equal(state[name], after[name]) for name in state), 'iterating drew from the global generators'
    assert values(start_pass(loader(), 0, 2)) == expected[2:]
    assert values(start_pass(loader(workers=1), 0, 1)) == expected[1:]
    assert values(start_pass(loader(), 1, 0)) != expected  # other numbers in another pass
    assert values(start_pass(loader(seed=1), 0, 0)) != expected


def test_skipping_reads_nothing(tmp_path):
    log = tmp_path / 'reads.txt'
    data = ExactData(10, log=str(log))
    made = make_repeatable(DataLoader(data, 3, sampler=DefaultSampler(data, shuffle=False)), 0)
    list(start_pass(made, 0, 2))
    assert log.read_text().split() == ['6', '7', '8', '9']


@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
def test_two_processes_read_what_one_reads_with_both_their_batches(monkeypatch, sampler):
    def read(rank, processes, batch_size):
        set_ranks(monkeypatch, rank, processes)
        data = ExactData(12)
        made = make_repeatable(DataLoader(data, batch_size, sampler=sampler(data, shuffle=True, seed=5)), 0)
        batches = EndlessBatches(made)
        return values(next(batches) for _ in range(5))  # beyond the end of a pass

    whole = read(0, 1, 6)
    shares = zip(read(0, 2, 3), read(1, 2, 3), strict=True)
    assert [sorted(batch) for batch in whole] == [sorted(a + b) for a, b in shares]


def test_endless_batches_go_to_any_position():
    for sampler in (DefaultSampler, InfiniteSampler):
        batches, positions, seen = EndlessBatches(loader(sampler)), [], []
        for _ in range(7):
            positions.append((batches.passes, batches.batches))
            seen += values([next(batches)])
        assert (positions[-1] == (0, 6)) == (sampler is InfiniteSampler)
        assert len({str(batch) for batch in seen}) == 7
        for i, position in enumerate(positions):
            again = EndlessBatches(loader(sampler))
            again.go_to(*position)
            assert values(next(again) for _ in range(7 - i)) == seen[i:]


def test_a_loader_without_batches_is_an_error():
    with pytest.raises(DataError, match=r'gives no batch: its data set has 2 sample\(s\)'):
        next(EndlessBatches(loader(size=2, drop_last=True)))


def test_the_data_set_inside_shows_through():
    data = ExactData(4, augment=False)
    samples = pickle.loads(pickle.dumps(SeededSamples(data)))
    assert len(samples) == 4
    assert samples.metainfo == data.metainfo
    assert not hasattr(samples, 'dataset')
    samples.augment = True
    assert samples._samples.augment
    assert torch.equal(SeededSamples(data)[1]['x'], data[1]['x'])  # a plain index goes through
    made = loader()
    assert made.batch_size == 3
    assert made.sampler.seed == made.batch_sampler.sampler.seed == 5
    assert len(made) == len(made.batch_sampler) == 4


def test_data_sets_that_read_batches_or_streams():
    class InBatches(ExactData):
        def __getitems__(self, indices):
            return [self[index] for index in indices]

    def read():
        data = InBatches(6)
        return values(start_pass(make_repeatable(DataLoader(data, 3), 0), 0, 0))

    assert read() == read()

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(9))

    stream = DataLoader(Stream(), 3)
    assert make_repeatable(stream, 0) is stream
    assert [batch.tolist() for batch in start_pass(stream, 0, 2)] == [[6, 7, 8]]
