import pytest
import torch

from pelk_mm.benchmarks.rotation import Rotation


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_copies_exceed_the_cache_and_take_turns(channels_last, dtype):
    image = torch.randn(2, 3, 5, 7).to(dtype)
    cache = 10_000
    rotation = Rotation(image, cache, channels_last=channels_last, requires_grad=True)
    seen = [rotation.next() for _ in range(len(rotation))]
    addresses = {copy.data_ptr() for copy in seen}
    assert len(addresses) == len(rotation)
    assert (len(rotation) - 1) * image.numel() * image.element_size() > cache  # the others, between two uses of one
    assert rotation.next() is seen[0]
    for copy in seen:
        assert torch.equal(copy, image)
        assert copy.is_leaf
        assert copy.requires_grad
        assert copy.data_ptr() % 64 == seen[0].data_ptr() % 64
        assert copy.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    image.zero_()
    assert seen[1].abs().max() > 0


def test_one_hot_copy():
    rotation = Rotation(torch.ones(1, 1, 2, 2), 0)
    assert len(rotation) == 1
    assert rotation.next() is rotation.next()
