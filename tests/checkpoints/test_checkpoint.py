import os
import pickle
import zipfile

import mmengine.runner.checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from pelk_mm.checkpoints.loading import find_latest_checkpoint, load_weights
from pelk_mm.checkpoints.reading import read_checkpoint, safe_loading
from pelk_mm.utils.errors import CheckpointError


class Payload:
    """Runs code when it is unpickled: makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


class Sneaky:
    """Reaches for a function through ``getattr``, which pickled HistoryBuffers need."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


@pytest.fixture
def evil(tmp_path):
    """A checkpoint with a payload, and the folder that appears if the payload runs."""
    path, marker = tmp_path / 'evil.pth', tmp_path / 'payload_ran'
    torch.save({'state_dict': {'weight': torch.zeros(1)}, 'payload': Payload(marker)}, path)
    return path, marker


def make_net(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def test_what_mmengine_saves_is_read_safely(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    saved = {
        'state_dict': make_net().state_dict(),
        'meta': {'epoch': np.int64(3), 'seed': np.random.RandomState(0).rand(2), 'classes': ('a',), 'ok': np.bool_(1)},
        'message_hub': {'log_scalars': {'loss': history}, 'runtime_info': {}, 'resumed_keys': {'loss': True}},
        'names': np.array(['a', 'b']),
    }
    torch.save(saved, tmp_path / 'a.pth')
    read = read_checkpoint(tmp_path / 'a.pth')
    assert read['meta']['epoch'] == 3
    assert read['message_hub']['log_scalars']['loss'].mean() == 1.5
    assert set(read['state_dict']) == set(saved['state_dict'])


def test_files_of_numpy_1_are_read(tmp_path):
    torch.save({'state_dict': {'w': torch.ones(1)}, 'meta': {'score': np.float64(2.5)}}, tmp_path / 'new.pth')
    with zipfile.ZipFile(tmp_path / 'new.pth') as new, zipfile.ZipFile(tmp_path / 'old.pth', 'w') as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b'numpy._core.multiarray', b'numpy.core.multiarray'))
    assert read_checkpoint(tmp_path / 'old.pth')['meta']['score'] == 2.5


def test_a_bare_state_dict_is_wrapped(tmp_path):
    torch.save(make_net().state_dict(), tmp_path / 'a.pth')
    assert '0.weight' in read_checkpoint(tmp_path / 'a.pth')['state_dict']


def test_payload_is_refused_and_does_not_run(evil):
    path, marker = evil
    with pytest.raises(CheckpointError, match=r'evil.pth is refused: .*posix.mkdir.*--trust-checkpoint'):
        read_checkpoint(path)
    assert not marker.exists()
    read_checkpoint(path, trust=True)
    assert marker.exists()  # the payload is a live one


def test_getattr_serves_history_buffers_only(tmp_path):
    torch.save({'state_dict': {}, 'meta': Sneaky()}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='is refused: .*getattr'):
        read_checkpoint(tmp_path / 'a.pth')


def test_safe_loading_covers_mmengine_and_torch(evil, tmp_path, monkeypatch):
    path, marker = evil
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    good = tmp_path / 'good.pth'
    torch.save({'state_dict': {'w': torch.ones(1)}, 'history': HistoryBuffer([1.0], [1])}, good)
    with safe_loading():
        with pytest.raises(CheckpointError, match='is refused'):
            CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
        read_checkpoint(good)  # must not take the allowed types away from what follows
        assert torch.load(good, weights_only=False)['history'].mean() == 1
        with pytest.raises(CheckpointError, match='is refused'):
            torch.load(path, weights_only=False)  # torch.hub asks so
        with pytest.raises(pickle.UnpicklingError):
            torch.serialization.load(path, weights_only=False)
        assert not marker.exists()
    assert os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] == '1'
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ
    monkeypatch.undo()
    CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert marker.exists()  # mmengine's own loader is back


@pytest.mark.parametrize('name', ['https://example.com/net.pth', 'torchvision://net', 'open-mmlab://net'])
def test_what_mmengine_fetches_is_unpickled_by_the_same_rules(name, tmp_path, monkeypatch):
    class Outside:
        """Reads outside its memory; mmengine would allow it."""

        def __reduce__(self):
            return np.ndarray, ((2,), np.dtype('f8'), b'12345678', 4096)

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    for models in ('get_torchvision_models', 'get_external_models'):
        monkeypatch.setattr(mmengine.runner.checkpoint, models, lambda: {'net': 'https://example.com/net.pth'})
    cached = tmp_path / 'hub' / 'checkpoints' / 'net.pth'  # as if it had been downloaded
    cached.parent.mkdir(parents=True)
    with safe_loading():
        torch.save({'state_dict': {'w': torch.ones(1)}, 'meta': {'epoch': np.int64(1)}}, cached)
        assert CheckpointLoader.load_checkpoint(name)['meta']['epoch'] == 1
        torch.save({'state_dict': {'w': torch.ones(1)}, 'meta': Outside()}, cached)
        with pytest.raises(CheckpointError, match=r'net.pth is refused: .*numpy.ndarray'):
            CheckpointLoader.load_checkpoint(name)
    assert np.ndarray not in getattr(torch.serialization, 'get_safe_globals', list)()  # torch 2.5 has them
    assert torch.load is torch.serialization.load


@pytest.mark.parametrize('share', [0.0, 0.01, 0.5, 0.99])
def test_truncated_file_is_named(tmp_path, share):
    path = tmp_path / 'cut.pth'
    torch.save({'state_dict': make_net(100).state_dict()}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r'cut.pth cannot be read: it is truncated'):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1, 2], 'holds a list, not a dictionary'),
        ({'epoch': 1}, 'holds no state_dict and no weights; its keys: epoch'),
    ],
)
def test_no_weights(tmp_path, content, message):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / 'a.pth')


def test_missing_folder_and_text_file(tmp_path):
    with pytest.raises(CheckpointError, match='none.pth does not exist'):
        read_checkpoint(tmp_path / 'none.pth')
    with pytest.raises(CheckpointError, match='is a folder, not a file'):
        read_checkpoint(tmp_path)
    (tmp_path / 'a.pth').write_text('hello, I am not a checkpoint')
    with pytest.raises(CheckpointError, match='a.pth is a text file, not a checkpoint'):
        read_checkpoint(tmp_path / 'a.pth')


def test_load_weights_names_what_does_not_fit():
    net = make_net()
    state = {f'module.{key}': value + 1 for key, value in net.state_dict().items()}
    load_weights(net, {'state_dict': dict(state)}, 'a.pth', demand_all=True)
    assert torch.equal(net.state_dict()['1.bias'], torch.ones(3))

    missing = {key: value for key, value in state.items() if key != 'module.0.bias'}
    with pytest.raises(CheckpointError, match=r'a.pth does not fit .* 5 of 6 keys match, all must \(missing: 0.bias\)'):
        load_weights(net, {'state_dict': missing}, 'a.pth', demand_all=True)
    with pytest.raises(CheckpointError, match=r'of another shape: 0.weight, 0.bias, 1.weight and 3 more'):
        load_weights(make_net(4), {'state_dict': dict(state)}, 'a.pth', demand_all=True)
    other = {'stem.weight': torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r'0 of 6 keys match, at least some must .*unexpected: stem.weight'):
        load_weights(net, {'state_dict': other}, 'a.pth', demand_all=False)


def test_load_weights_in_part_for_fine_tuning():
    net, old = make_net(), make_net()
    state = old.state_dict()
    state['0.weight'] = torch.zeros(5, 2)
    before = net[0].weight.clone()
    load_weights(net, {'state_dict': state}, 'a.pth', demand_all=False)
    assert torch.equal(net[0].bias, old[0].bias)
    assert torch.equal(net[0].weight, before)


def test_find_latest_checkpoint(tmp_path):
    assert find_latest_checkpoint(tmp_path) is None
    for i, name in enumerate(['epoch_2.pth', 'epoch_10.pth', 'best_acc_epoch_9.pth']):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (i, i))
    assert find_latest_checkpoint(tmp_path).name == 'epoch_10.pth'
    # The folder has been moved since: the recorded path is gone, its name is not.
    (tmp_path / 'last_checkpoint').write_text('/somewhere/else/epoch_2.pth')
    assert find_latest_checkpoint(tmp_path) == tmp_path / 'epoch_2.pth'
    (tmp_path / 'last_checkpoint').write_text('')
    assert find_latest_checkpoint(tmp_path).name == 'epoch_10.pth'
