"""Annotation files against classes, on mmdet's own CocoDataset."""

import json

import pytest

from pelk_mm.preflight.coco import check_categories, read_categories
from pelk_mm.preflight.files import check_evaluators
from pelk_mm.utils.errors import DataError

CATEGORIES = [{'id': 3, 'name': 'cat'}, {'id': 7, 'name': 'dog'}]


def write(path, categories=CATEGORIES, labels=(3, 7), order=('images', 'annotations', 'categories')):
    box = {'image_id': 0, 'bbox': [0, 0, 8, 8], 'area': 64, 'iscrowd': 0}
    content = {
        'images': [{'id': 0, 'file_name': '0.jpg', 'width': 16, 'height': 16}],
        'annotations': [{**box, 'id': i, 'category_id': label} for i, label in enumerate(labels)],
        'categories': categories,
    }
    path.write_text(json.dumps({key: content[key] for key in order}))
    return path


@pytest.fixture
def coco(tmp_path):
    pytest.importorskip('mmdet', reason='reads annotations with mmdet')
    from mmdet.datasets import CocoDataset

    def build(classes=('cat', 'dog'), test_mode=False, **content):
        file = write(tmp_path / 'a.json', **content)
        meta = {'classes': classes}
        return CocoDataset(ann_file=str(file), data_prefix={'img': ''}, metainfo=meta, test_mode=test_mode)

    return build


def test_matching_categories_pass(coco):
    check_categories(coco(), 'train_dataloader')
    check_categories(coco(labels=(), test_mode=True), 'test_dataloader')  # image lists without annotations
    check_categories(object(), 'train_dataloader')


@pytest.mark.parametrize(
    ('dataset', 'message'),
    [
        (
            {'classes': ('cat', 'cow')},
            r"a.json \(train_dataloader\) has no category 'cow', which is a class of the data set \(1 of 2 are absent\)"
            '; its categories are cat, dog',
        ),
        (
            {'classes': ('dog', 'cat')},
            "label 0 is 'cat' in the file, but 'dog' in metainfo.*order of the file: cat, dog",
        ),
        ({'labels': (3, 9, 9)}, r'has 2 annotation\(s\) with category_id 9, which is none of its categories \(3, 7\)'),
        ({'classes': ('cat',), 'labels': (7, 7)}, 'holds no annotation of the classes cat: nothing to train on'),
        ({'labels': ()}, 'holds no annotation of the classes cat, dog'),
    ],
)
def test_what_mmdet_drops_or_renumbers_is_an_error(coco, dataset, message):
    with pytest.raises(DataError, match=message):
        check_categories(coco(**dataset), 'train_dataloader')


def test_chosen_classes_are_a_warning(coco, monkeypatch):
    lines = []
    monkeypatch.setattr('pelk_mm.preflight.coco.print_log', lambda text, **_: lines.append(text))
    check_categories(coco(classes=('cat',)), 'train_dataloader')
    assert '1 of 2 annotations are left out' in lines[0]
    assert lines[0].endswith(': dog')


def test_a_file_read_in_another_way_is_left_alone(coco):
    dataset = coco(classes=('cat', 'cow'))

    class Other(type(dataset)):
        def load_data_list(self):
            return []

    dataset.__class__ = Other
    check_categories(dataset, 'train_dataloader')


@pytest.mark.parametrize('order', [('images', 'annotations', 'categories'), ('categories', 'images', 'annotations')])
def test_categories_are_found_without_parsing_the_rest(tmp_path, order):
    noise = [*CATEGORIES, {'id': 9, 'name': 'the "categories": [1]', 'categories': 5}]
    file = write(tmp_path / 'a.json', categories=noise, order=order)
    assert read_categories(str(file)) == {3: 'cat', 7: 'dog', 9: 'the "categories": [1]'}


def test_categories_that_are_not_there(tmp_path):
    (tmp_path / 'a.json').write_text('{"categories": [1, 2]}')
    assert read_categories(str(tmp_path / 'a.json')) is None
    assert read_categories(str(tmp_path / 'none.json')) is None
    (tmp_path / 'b.json').write_bytes(b'')
    assert read_categories(str(tmp_path / 'b.json')) is None


def test_evaluator_scores_against_the_file_of_its_data_set(tmp_path):
    mine, other = write(tmp_path / 'a.json'), write(tmp_path / 'b.json')
    dataset = {'data_root': str(tmp_path), 'ann_file': 'a.json'}
    check_evaluators([{'ann_file': f'{mine.parent}/./{mine.name}'}], [dataset], 'val_dataloader')
    check_evaluators(None, [dataset], 'train_dataloader')
    check_evaluators({'ann_file': str(other)}, [dataset, dataset], 'val_dataloader')  # which of several is not known
    with pytest.raises(DataError, match=r'val_dataloader reads .*a.json, but val_evaluator scores against .*b.json'):
        check_evaluators({'ann_file': str(other)}, [dataset], 'val_dataloader')
    with pytest.raises(DataError, match=r'ann_file of test_evaluator does not exist: .*none.json'):
        check_evaluators({'ann_file': str(tmp_path / 'none.json')}, [dataset], 'test_dataloader')
