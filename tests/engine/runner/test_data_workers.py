import re

import pytest
from toy_task import ToyData

from pelk_mm.engine.runner.runner import SafeRunner

TEXT = 'unable to allocate shared memory(shm) for file </torch_1_2_3>: Resource temporarily unavailable (11)'


class Unsendable:
    def __reduce__(self):
        raise RuntimeError(TEXT)


class UnsendableData(ToyData):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return {**sample, 'x': Unsendable()} if index == 5 else sample


@pytest.mark.processes
def test_what_a_worker_cannot_send_ends_the_run():
    """multiprocessing alone prints it and sends nothing, for which the run would wait for ever."""
    loader = SafeRunner.build_dataloader(
        {
            'batch_size': 2,
            'num_workers': 1,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'dataset': UnsendableData(),
            'collate_fn': {'type': 'pseudo_collate'},
        },
        seed=0,
    )
    batches = iter(loader)
    assert [len(next(batches)['x']) for _ in range(2)] == [2, 2]
    with pytest.raises(RuntimeError, match=re.escape(TEXT)):
        next(batches)
