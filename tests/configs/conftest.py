import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # for `small` and `made_up_data`


@pytest.fixture(autouse=True)
def no_traces(monkeypatch):
    """Neither the environment nor an earlier test's runner decides how a config is read."""
    from mmengine.registry import DefaultScope

    monkeypatch.delenv('PELK_MM_DATA', raising=False)
    monkeypatch.delenv('PELK_MM_PRETRAINED', raising=False)
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """Call it with a config's name for the root of made-up data in that config's layout."""
    from made_up_data import write_camvid, write_class_folders, write_coco, write_imagenet

    from pelk_mm.datasets import ToyDataset, write_toy_dataset

    def coco(root):
        from mmdet.datasets import CocoDataset

        write_coco(root, CocoDataset.METAINFO['classes'], images=2)

    writers = {
        'imagenet_tiny': lambda root: write_class_folders(root, classes=20),
        'imagenet': lambda root: write_imagenet(root, train=8, val=2),  # four accumulated batches of two
        'camvid': write_camvid,
        'coco': coco,
        '': lambda root: write_toy_dataset(root, ToyDataset(train=7, val=7, size=64)),  # in ADE20K's layout
    }
    roots = {}

    def root_for(name):
        kind = next(kind for kind in writers if kind in name)
        if kind not in roots:
            roots[kind] = tmp_path_factory.mktemp(kind or 'ade')
            writers[kind](roots[kind])
        return roots[kind]

    return root_for
