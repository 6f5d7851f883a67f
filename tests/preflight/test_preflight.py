import pytest
import torch
from mmengine.config import Config

from pelk_mm.preflight.files import check_checkpoints, check_data
from pelk_mm.utils.errors import CheckpointError, DataError

PREFIX = {'img_path': 'images/training', 'seg_map_path': 'annotations/training'}


def make(dataset):
    return Config({'train_dataloader': {'dataset': dataset}})


def test_data_root_missing_names_path_and_layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = make({'type': 'ADE20KDataset', 'data_root': 'data/ade', 'data_prefix': PREFIX})
    with pytest.raises(DataError) as caught:
        check_data(cfg, ['train_dataloader'])
    assert str(caught.value) == (
        f"data_root 'data/ade' of train_dataloader does not exist (looked for {tmp_path}/data/ade); expected layout: "
        'data/ade/images/training (img_path), data/ade/annotations/training (seg_map_path). '
        'Set it with --cfg-options train_dataloader.dataset.data_root=PATH'
    )
    (tmp_path / 'data/ade/images/training').mkdir(parents=True)
    with pytest.raises(DataError, match='seg_map_path of train_dataloader does not exist: data/ade/annotations/train'):
        check_data(cfg, ['train_dataloader'])
    (tmp_path / 'data/ade/annotations/training').mkdir(parents=True)
    check_data(cfg, ['train_dataloader', 'val_dataloader'])


def test_wrapped_data_sets_and_other_layouts(tmp_path):
    inner = {'type': 'CocoDataset', 'data_root': str(tmp_path), 'ann_file': 'annotations/a.json'}
    cfg = make({'type': 'RepeatDataset', 'times': 2, 'dataset': {'type': 'ConcatDataset', 'datasets': [inner]}})
    with pytest.raises(DataError, match=r'ann_file of train_dataloader does not exist: .*annotations/a.json'):
        check_data(cfg, ['train_dataloader'])
    cfg.train_dataloader.dataset.dataset.datasets[0].data_root = str(tmp_path / 'x')
    with pytest.raises(DataError, match=r'train_dataloader.dataset.dataset.datasets.0.data_root=PATH'):
        check_data(cfg, ['train_dataloader'])
    check_data(make({'type': 'X', 'data_root': 's3://bucket/', 'ann_file': 'a.json'}), ['train_dataloader'])
    check_data(make({'type': 'CIFAR10', 'data_root': str(tmp_path), 'data_prefix': ''}), ['train_dataloader'])
    with pytest.raises(DataError, match='data_prefix of train_dataloader'):
        check_data(make({'type': 'X', 'data_root': str(tmp_path), 'data_prefix': 'train'}), ['train_dataloader'])


def test_pretrained_weights_are_read_beforehand(tmp_path):
    def config(checkpoint, prefix=None):
        init_cfg = {'type': 'Pretrained', 'checkpoint': str(checkpoint), 'prefix': prefix}
        return Config({'model': {'backbone': {'type': 'X', 'init_cfg': [init_cfg]}}})

    path = tmp_path / 'a.pth'
    torch.save({'state_dict': {'backbone.w': torch.ones(1)}}, path)
    check_checkpoints(config(path))
    check_checkpoints(config(path, 'backbone.'))
    check_checkpoints(config('https://example.org/a.pth'))
    with pytest.raises(CheckpointError, match=r"no key that starts with 'encoder.'; its first key is 'backbone.w'"):
        check_checkpoints(config(path, 'encoder'))
    with pytest.raises(CheckpointError, match='none.pth does not exist'):
        check_checkpoints(config(tmp_path / 'none.pth'))
    torch.save({'state_dict': {'backbone.w': torch.ones(1)}, 'meta': {'deploy': True}}, path)
    with pytest.raises(CheckpointError, match='deployed form, which cannot be trained'):
        check_checkpoints(config(path))
