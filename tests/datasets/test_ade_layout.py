import json

import numpy as np
import pytest
from PIL import Image

from pelk_mm.datasets import TOY_CLASSES, ToyDataset, write_toy_dataset
from pelk_mm.datasets.ade_layout import MANIFEST

SPEC = ToyDataset(train=9, val=7, size=64)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp('toy') / 'new' / 'toy'
    write_toy_dataset(path, SPEC)
    return path


def contents(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob('*') if p.is_file()}


def test_layout_names_and_numbering_are_those_of_ade(root):
    for split, short, count in (('training', 'train', 9), ('validation', 'val', 7)):
        stems = [f'ADE_{short}_{i:08d}' for i in range(1, count + 1)]
        assert sorted(p.name for p in (root / 'images' / split).iterdir()) == [f'{stem}.jpg' for stem in stems]
        assert sorted(p.name for p in (root / 'annotations' / split).iterdir()) == [f'{stem}.png' for stem in stems]


def test_pictures_have_the_modes_and_sizes_of_ade(root):
    for path in root.glob('images/*/*'):
        image, labels = Image.open(path), Image.open(root / 'annotations' / path.parent.name / f'{path.stem}.png')
        assert (image.mode, image.size) == ('RGB', (64, 64))
        assert (labels.mode, labels.size) == ('L', (64, 64))


def test_every_class_is_in_both_splits(root):
    for split in ('training', 'validation'):
        ids = {int(i) for path in (root / 'annotations' / split).iterdir() for i in np.unique(Image.open(path))}
        assert set(TOY_CLASSES.values()) <= ids <= {0, *TOY_CLASSES.values()}


def test_labels_on_disk_are_those_of_the_scene(root):
    image, labels = SPEC.scene('validation', 2)
    np.testing.assert_array_equal(np.asarray(Image.open(root / 'annotations/validation/ADE_val_00000003.png')), labels)
    read = np.asarray(Image.open(root / 'images/validation/ADE_val_00000003.jpg')).astype(int)
    assert abs(read - image).mean() < 5


def test_deterministic_and_splits_do_not_depend_on_each_other(root, tmp_path):
    write_toy_dataset(tmp_path / 'again', SPEC)
    assert contents(tmp_path / 'again') == contents(root)
    more = ToyDataset(train=20, val=7, size=64)
    np.testing.assert_array_equal(more.scene('validation', 0)[0], SPEC.scene('validation', 0)[0])
    assert (SPEC.scene('training', 0)[0] != SPEC.scene('validation', 0)[0]).any()
    assert (ToyDataset(seed=1, size=64).scene('training', 0)[0] != SPEC.scene('training', 0)[0]).any()


def test_mmseg_reads_it_with_its_150_classes(root):
    datasets = pytest.importorskip('mmseg.datasets', reason='needs mmsegmentation')
    dataset = datasets.ADE20KDataset(
        data_root=str(root),
        data_prefix={'img_path': 'images/validation', 'seg_map_path': 'annotations/validation'},
        pipeline=[{'type': 'LoadImageFromFile'}, {'type': 'mmseg.LoadAnnotations'}],
    )
    assert len(dataset) == 7
    assert len(dataset.metainfo['classes']) == 150
    for name, ade_id in TOY_CLASSES.items():
        assert dataset.metainfo['classes'][ade_id - 1] == name
    ids = set()
    for i in range(7):
        item = dataset[i]
        assert item['img'].shape == (64, 64, 3)
        expected = SPEC.scene('validation', i)[1].astype(int)
        np.testing.assert_array_equal(item['gt_seg_map'], np.where(expected == 0, 255, expected - 1))
        ids |= set(np.unique(item['gt_seg_map']).tolist())
    assert ids == {255, *(ade_id - 1 for ade_id in TOY_CLASSES.values())}


def test_a_folder_with_anything_in_it_is_refused(root, tmp_path):
    before = contents(root)
    with pytest.raises(FileExistsError, match='is not empty.*--overwrite'):
        write_toy_dataset(root, ToyDataset(train=7, val=7, size=64))
    assert contents(root) == before
    (tmp_path / 'file').write_text('x')
    with pytest.raises(FileExistsError, match='is a file'):
        write_toy_dataset(tmp_path / 'file', SPEC)


def test_overwrite_replaces_a_toy_data_set_without_leaving_its_files(tmp_path):
    write_toy_dataset(tmp_path, SPEC)
    (tmp_path / 'notes.txt').write_text('mine')
    smaller = ToyDataset(train=7, val=8, size=64, seed=1)
    write_toy_dataset(tmp_path, smaller, overwrite=True)
    assert len(list(tmp_path.glob('images/training/*'))) == 7
    assert len(list(tmp_path.glob('annotations/validation/*'))) == 8
    assert (tmp_path / 'notes.txt').read_text() == 'mine'
    assert json.loads((tmp_path / MANIFEST).read_text())['seed'] == 1


def test_overwrite_goes_on_after_an_interrupted_run(tmp_path):
    write_toy_dataset(tmp_path, SPEC)
    (tmp_path / 'images/training/ADE_train_00000004.jpg').unlink()
    write_toy_dataset(tmp_path, SPEC, overwrite=True)
    assert (tmp_path / 'images/training/ADE_train_00000004.jpg').exists()


@pytest.mark.parametrize('manifest', [None, 'no json', '{"train": 9}x', '{"other": 1}', '[]', '{"train": 1}'])
def test_overwrite_never_touches_what_is_not_a_toy_data_set(tmp_path, manifest):
    theirs = tmp_path / 'images/training/ADE_train_00000001.jpg'
    theirs.parent.mkdir(parents=True)
    theirs.write_text('real')
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(FileExistsError, match='not a toy data set'):
        write_toy_dataset(tmp_path, SPEC, overwrite=True)
    assert theirs.read_text() == 'real'


def test_overwrite_refuses_foreign_files_among_ours(tmp_path):
    write_toy_dataset(tmp_path, SPEC)
    (tmp_path / 'images/training/holiday.jpg').write_text('mine')
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match='holiday.jpg'):
        write_toy_dataset(tmp_path, SPEC, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'train': 6}, 'train must be at least 7.*got 6'),
        ({'val': 0}, 'val must be at least 7.*got 0'),
        ({'size': 63}, 'size must be at least 64 pixels, got 63'),
        ({'seed': -1}, 'seed must not be negative, got -1'),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        ToyDataset(**values)
