"""Data sets that are incomplete, damaged or of another kind."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def data(project, tool_data):
    """A copy of the made-up data that a test may spoil; the configs read it."""
    shutil.copytree(tool_data, 'data')
    for name in ('seg', 'cls', 'det'):
        path = Path(f'{name}.py')
        path.write_text(path.read_text().replace(str(tool_data), 'data'))
    return Path('data')


def change(path, key, value):
    """Change an entry of the annotations; the path is that of the entry in the file."""
    file = Path('data/boxes.json')
    content = json.loads(file.read_text())
    entry = content
    for step in path:
        entry = entry[step]
    entry[key] = value
    file.write_text(json.dumps(content))


BOX = ('annotations', 0)


@pytest.mark.parametrize(
    ('path', 'key', 'value', 'words'),
    [
        (BOX, 'bbox', [8, 8, math.nan, 16], 'boxes.json.*NaN'),
        (BOX, 'bbox', [-math.inf, 8, 16, 16], 'boxes.json.*-Infinity'),
        (BOX, 'area', math.nan, 'boxes.json.*NaN'),
        (BOX, 'bbox', [8, 8, 16], 'bbox'),
        (BOX, 'bbox', 'box', 'bbox'),
        (BOX, 'bbox', [8, 8, 'wide', 16], 'bbox'),
        (BOX, 'bbox', None, 'bbox'),
        (BOX, 'category_id', 5, 'category_id'),
        (BOX, 'category_id', 'square', 'category_id'),
        (('images', 1), 'width', 65, 'is 64x48 pixels'),
        (('images', 1), 'height', 47, 'is 64x48 pixels'),
        (('images', 1), 'file_name', 'none.jpg', 'missing'),
        (('images', 1), 'file_name', '../../../etc/passwd', 'missing|cannot be read|is not an image'),
        (('categories', 0), 'name', 'circle', "no category 'square'"),
        ((), 'categories', [], 'square'),
        ((), 'images', [], 'boxes.json|empty'),
        ((), 'annotations', [], 'no annotation'),
    ],
)  # fmt: skip
def test_annotations(data, refuse, path, key, value, words):
    change(path, key, value)
    refuse(words, 'train.py', 'det.py')


@pytest.mark.parametrize(
    'text',
    ['', '{', '[]', '3', '{}', '{"images": []}', 'a picture', '{"images": 3, "annotations": [], "categories": []}'],
)
def test_an_annotation_file_of_another_kind(data, refuse, text):
    (data / 'boxes.json').write_text(text)
    refuse('boxes.json|train_dataloader', 'train.py', 'det.py')


def cut(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def folder(file):
    file.unlink()
    file.mkdir()


def loop(file):
    file.unlink()
    os.symlink(file.name, file)


DAMAGE = {
    'cut': cut,
    'empty': lambda file: file.write_bytes(b''),
    'text': lambda file: file.write_text('no picture'),
    'folder': folder,
    'loop of links': loop,
    'gone': lambda file: file.unlink(),
}


# What a folder lists by itself is a sample less where it is gone.
DAMAGED = [('labels/0.png', kind) for kind in DAMAGE]
DAMAGED += [(name, kind) for name in ('images/0.jpg', 'classes/a/0.jpg') for kind in ('cut', 'empty', 'text')]


@pytest.mark.parametrize(('file', 'kind'), DAMAGED)
def test_a_damaged_file(data, refuse, file, kind):
    DAMAGE[kind](data / file)
    refuse(Path(file).name, 'train.py', 'cls.py' if file.startswith('classes') else 'seg.py')


def coloured(file):
    Image.new('RGB', (64, 48)).save(file)


LABELS = {
    'three channels': coloured,
    'another size': lambda file: Image.new('L', (48, 64)).save(file),
    'a class too many': lambda file: Image.fromarray(np.full((48, 64), 3, np.uint8)).save(file),
    'fractions': lambda file: Image.new('F', (64, 48), 0.5).save(file.with_suffix('.tif')) or file.unlink(),
}


@pytest.mark.parametrize('kind', LABELS)
def test_label_maps(data, refuse, kind):
    LABELS[kind](data / 'labels/0.png')
    refuse('labels/0.png|0.png', 'train.py', 'seg.py')


@pytest.mark.parametrize(
    ('config', 'option', 'words'),
    [
        ('seg.py', 'train_dataloader.dataset.data_root=none', "data_root 'none'"),
        ('seg.py', 'train_dataloader.dataset.data_root=seg.py', "data_root 'seg.py'"),
        ('seg.py', 'train_dataloader.dataset.data_prefix.img_path=none', 'none'),
        ('seg.py', 'train_dataloader.dataset.data_prefix.seg_map_path=none', 'none'),
        ('seg.py', 'train_dataloader.dataset.img_suffix=.tif', 'train_dataloader is empty'),
        ('seg.py', 'train_dataloader.dataset.seg_map_suffix=.tif', '0.tif'),
        ('seg.py', 'train_dataloader.dataset.ann_file=none.txt', 'none.txt'),
        ('seg.py', 'train_dataloader.dataset.reduce_zero_label=many', 'reduce_zero_label|train_dataloader'),
        ('cls.py', 'train_dataloader.dataset.data_prefix=none', 'none'),
        ('cls.py', 'train_dataloader.dataset.ann_file=none.txt', 'none.txt'),
        ('cls.py', 'train_dataloader.dataset.type=ImageNet', '3 class folders'),
        ('cls.py', 'model.head.num_classes=2', 'num_classes=2'),
        ('det.py', 'train_dataloader.dataset.ann_file=none.json', 'none.json'),
        ('det.py', 'train_dataloader.dataset.data_prefix.img=labels/', 'missing'),
        ('det.py', 'model.bbox_head.num_classes=80', 'num_classes=80'),
    ],
)  # fmt: skip
def test_a_data_set_that_is_elsewhere(data, refuse, config, option, words):
    refuse(words, 'train.py', config, '--cfg-options', option)


@pytest.mark.parametrize(
    ('image', 'words', 'status'),
    [
        ('none.jpg', 'none.jpg does not exist', 2),
        ('x' * 300, 'does not exist', 2),
        ('empty', 'holds no image', 2),
        ('seg.py', '1 of 1 image.s. could not be read', 1),
        ('cut.jpg', '1 of 1 image.s. could not be read', 1),
    ],
)
def test_inputs_to_predict_on(seg, data, refuse, image, words, status):
    Path('empty').mkdir()
    shutil.copy('data/images/0.jpg', 'cut.jpg')
    cut(Path('cut.jpg'))
    refuse(words, 'predict.py', 'seg.py', 'seg.pth', image, '--out-dir', 'out', status=status)


def test_json_of_another_format_is_not_blamed(data, refuse):
    """mmengine's own format has no list of images; what is wrong here is the pipeline."""
    (data / 'list.json').write_text(json.dumps({'metainfo': {}, 'data_list': []}))
    options = ['dataset.type=BaseDetDataset', 'dataset.ann_file=list.json', 'dataset.pipeline.0.type=NoTransform']
    names = [f'train_dataloader.{option}' for option in options]
    refuse('NoTransform', 'train.py', 'det.py', '--cfg-options', *names)
