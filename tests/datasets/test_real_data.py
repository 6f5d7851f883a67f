"""The configs' datasets read the real data, where PELK_MM_DATA names it."""

import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

pytest.importorskip('mmseg', reason='the datasets are of mmsegmentation')

from pelk_mm.engine.config import load_config

CONFIGS = Path(__file__).parents[2] / 'configs' / 'demo'


def datasets(name, folder):
    root = os.environ.get('PELK_MM_DATA')
    if root is None or not Path(root, folder).is_dir():
        pytest.skip(f'needs real data: PELK_MM_DATA names no folder that holds {folder}/')
    cfg = load_config(CONFIGS / name)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return [DATASETS.build(cfg[f'{split}_dataloader'].dataset) for split in ('train', 'val', 'test')]


def test_camvid():
    splits = datasets('upernet_pelk_atto_camvid.py', 'camvid')
    assert [len(split) for split in splits] == [367, 101, 233]
    for split in splits:
        sample = split[0]['data_samples']
        labels = np.unique(sample.gt_sem_seg.data)
        assert sample.ori_shape == (360, 480)
        assert labels.max() <= 11
        assert len(labels) > 3


def test_ade_tiny():
    train, *evaluated = datasets('upernet_pelk_atto_ade.py', 'ade_tiny')
    assert [len(train), *map(len, evaluated)] == [4, 4, 4]
    item = train[0]
    assert item['inputs'].shape[0] == 3
    for split in evaluated:
        labels = split[0]['data_samples'].gt_sem_seg.data
        assert set(np.unique(labels)) <= {*range(150), 255}
