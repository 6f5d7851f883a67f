"""Class folders and image lists, with mmpretrain's own CustomDataset."""

import pytest
from PIL import Image

pytest.importorskip('mmpretrain', reason='reads class folders with mmpretrain')

from pelk_mm.preflight.classes import check_listed_labels, check_same_classes
from pelk_mm.utils.errors import DataError


@pytest.fixture
def folders(tmp_path):
    """Build a CustomDataset over class folders of one image each."""
    from mmpretrain.datasets import CustomDataset

    def build(split, *names, **kwargs):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            Image.new('RGB', (4, 4)).save(tmp_path / split / name / '0.png')
        return CustomDataset(data_root=str(tmp_path), data_prefix=split, **kwargs)

    return build


@pytest.fixture
def listed(tmp_path):
    """Build a CustomDataset from lines of a path and a label."""
    from mmpretrain.datasets import CustomDataset

    def build(*lines, **kwargs):
        (tmp_path / 'list.txt').write_text('\n'.join(lines) + '\n')
        return CustomDataset(data_root=str(tmp_path), ann_file='list.txt', data_prefix='img', **kwargs)

    return build


def check(*datasets):
    check_same_classes(list(zip(('train_dataloader', 'val_dataloader'), datasets, strict=False)))


def test_the_same_folders_pass(folders):
    check(folders('train', 'a', 'b'), folders('val', 'a', 'b'))


def test_a_folder_that_one_side_lacks(folders):
    with pytest.raises(DataError, match=r"class folder 'b' of train_dataloader is not in val_dataloader: .*same ones"):
        check(folders('train', 'a', 'b', 'c'), folders('val', 'a', 'c'))


def test_other_folders_of_the_same_number(folders):
    with pytest.raises(DataError, match="class folder 'aa' of val_dataloader is not in train_dataloader"):
        check(folders('train', 'b', 'c'), folders('val', 'aa', 'c'))


def test_a_list_against_folders(folders, listed):
    train = folders('train', 'a', 'b')
    check(train, listed('a/1.png 0', 'b/1.png 1'))
    check(train, listed('1.png 1', '2.png 0'))  # no class folders in it
    with pytest.raises(DataError, match="class folder 'a' is class 0 in train_.*, but class 1 in val_dataloader"):
        check(train, listed('a/1.png 1', 'b/1.png 0'))


def test_names_in_another_order(listed):
    lines = ('1.png 0', '2.png 1')
    with pytest.raises(DataError, match="class 'x' is class 0 in train_dataloader, but class 1 in val_dataloader"):
        check(listed(*lines, classes=['x', 'y']), listed(*lines, classes=['y', 'x']))


def test_listed_labels(listed):
    check_listed_labels(listed('a.png 0', 'b.png 2'), 'head', 3, 'train_dataloader')
    check_listed_labels(object(), 'head', 3, 'train_dataloader')
    message = (
        r'line 2 of .*list.txt \(train_dataloader\) holds label 3, but head has num_classes=3.*these count from 1$'
    )
    with pytest.raises(DataError, match=message):
        check_listed_labels(listed('a.png 1', 'b.png 3', 'c.png 2'), 'head', 3, 'train_dataloader')
    with pytest.raises(DataError, match='line 1 of .*holds label -1.*0 to 2$'):
        check_listed_labels(listed('a.png -1', 'b.png 3'), 'head', 3, 'train_dataloader')
