"""Annotations that do not match images or heads stop train.py with one line, before anything is overwritten."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tool_runner import run


@pytest.fixture
def data(project, tool_data):
    """A copy of the made-up data that a test may spoil; the configs read it."""
    shutil.copytree(tool_data, project / 'data')
    for name in ('cls', 'det'):
        path = project / f'{name}.py'
        path.write_text(path.read_text().replace(str(tool_data), str(project / 'data')))
    return project / 'data'


def refuse(capsys, config, *options):
    """Run train.py over an earlier run's checkpoint with --overwrite; return its error line."""
    kept = Path('earlier/epoch_1.pth')
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(b'an earlier run')
    more = ['--cfg-options', *options] if options else []
    assert run('train.py', config, '--work-dir', 'earlier', '--overwrite', *more) == 2
    assert kept.read_bytes() == b'an earlier run'
    assert not list(kept.parent.glob('*.py'))
    return capsys.readouterr().err.strip().split('\n')[-1]


def rewrite(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def missing_image(data):
    (data / 'images/2.jpg').unlink()


def other_size(data):
    Image.new('RGB', (48, 64)).save(data / 'images/2.jpg')


def other_category(data):
    rewrite(data / 'boxes.json', lambda c: c['categories'][0].update(name='circle'))


def undeclared_category(data):
    rewrite(data / 'boxes.json', lambda c: c['annotations'][1].update(category_id=5))


def no_boxes(data):
    rewrite(data / 'boxes.json', lambda c: c.update(annotations=[]))


@pytest.mark.parametrize(
    ('spoil', 'options', 'message'),
    [
        (
            missing_image,
            [],
            '1 of 4 sampled images of train_dataloader that {data}/boxes.json lists are missing, the f',
        ),
        (
            other_size,
            [],
            'image {data}/images/2.jpg (train_dataloader) is 48x64 pixels, but its annotations are for 64x',
        ),
        (
            other_category,
            [],
            "{data}/boxes.json (train_dataloader) has no category 'square', which is a class of the da",
        ),
        (undeclared_category, [], 'has 1 annotation(s) with category_id 5, which is none of its categories (1)'),
        (no_boxes, [], '{data}/boxes.json (train_dataloader) holds no annotation of the classes square'),
        (
            no_boxes,
            ['train_dataloader.dataset.filter_cfg.filter_empty_gt=True'],
            'train_dataloader is empty: {data}/boxes.json lists 4 image(s) and 0 annotation(s), none of the classes sq',
        ),
        (
            lambda data: None,
            ['train_dataloader.dataset.filter_cfg.min_size=99'],
            'train_dataloader is empty: {data}/boxes.json lists 4 image(s), of which filter_cfg keeps none',
        ),
        (
            lambda data: None,
            ['model.bbox_head.num_classes=80'],
            'train_dataloader has 1 classes, but bbox_head has num_classes=80: set num_classes=1 in every head',
        ),
    ],
)
def test_detector(data, capsys, spoil, options, message):
    spoil(data)
    assert message.format(data=data) in refuse(capsys, 'det.py', *options)


def loose_files(data):
    for file in (data / 'classes').glob('*/*'):
        file.rename(data / 'classes' / file.name)


def wrong_label(data):
    (data / 'list.txt').write_text('a/0.jpg 0\nb/1.jpg 3\n')


LIST = ['train_dataloader.dataset.ann_file=list.txt']


@pytest.mark.parametrize(
    ('spoil', 'options', 'message'),
    [
        (
            lambda data: shutil.rmtree(data / 'classes/b'),
            [],
            'train_dataloader has 2 classes, but head has num_classes=3: set num_classes=2',
        ),
        (
            loose_files,
            [],
            'train_dataloader is empty: no image in a class folder below {data}/classes: sort the 4 files there into',
        ),
        (
            lambda data: None,
            ['train_dataloader.dataset.type=ImageNet'],
            '{data}/classes (train_dataloader) holds 3 class folders, but ImageNet has 1000 classes: name them in',
        ),
        (wrong_label, LIST, 'line 2 of {data}/list.txt (train_dataloader) holds label 3, but head has num_classes=3'),
        (lambda data: (data / 'list.txt').touch(), LIST, 'train_dataloader is empty: {data}/list.txt lists no image'),
    ],
)
def test_classifier(data, capsys, spoil, options, message):
    spoil(data)
    assert message.format(data=data) in refuse(capsys, 'cls.py', *options)


def test_training_and_validation_number_their_classes_alike(data, capsys):
    shutil.copytree(data / 'classes', data / 'other')
    (data / 'other/b').rename(data / 'other/bb')
    text = Path('cls.py').read_text() + (
        'val_dataloader = dict(train_dataloader, dataset=dict(train_dataloader["dataset"], data_prefix="other"))\n'
        'val_evaluator = test_evaluator\nval_cfg = dict()\n'
    )
    Path('cls.py').write_text(text)
    assert "class folder 'b' of train_dataloader is not in val_dataloader" in refuse(capsys, 'cls.py')


def test_evaluator_of_another_file(data, checkpoints, capsys):
    shutil.copy(data / 'boxes.json', data / 'other.json')
    option = f'test_evaluator.ann_file={data}/other.json'
    assert run('test.py', 'det.py', checkpoints['det'], '--cfg-options', option) == 2
    line = capsys.readouterr().err.strip().split('\n')[-1]
    assert f'test_dataloader reads {data}/boxes.json, but test_evaluator scores against {data}/other.json' in line
