import pytest
import torch

from pelk_mm.utils.devices import find_device, gpu_count, is_present


def test_names():
    assert find_device('cuda:1') == torch.device('cuda:1')
    assert find_device(torch.device('cpu')) == torch.device('cpu')
    assert find_device('abacus') is None


@pytest.mark.parametrize('count', [0, 1])
def test_a_gpu_is_present_by_its_number(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    assert gpu_count() == count
    assert is_present(torch.device('cpu'))
    assert is_present(torch.device('cuda')) == is_present(torch.device('cuda:0')) == (count > 0)
    assert not is_present(torch.device('cuda:1'))
