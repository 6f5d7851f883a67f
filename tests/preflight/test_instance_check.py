"""Boxes and masks as mmdet's CocoDataset reads them."""

import json
import math

import pytest

from pelk_mm.preflight.instances import check_instances
from pelk_mm.utils.errors import DataError

TRIANGLE = [[1, 1, 5, 1, 5, 5]]


@pytest.fixture
def coco(tmp_path):
    pytest.importorskip('mmdet', reason='reads annotations with mmdet')
    from mmdet.datasets import CocoDataset
    from mmengine.registry import init_default_scope

    def build(with_mask=False, **changes):
        init_default_scope('mmdet')
        plain = {'image_id': 0, 'category_id': 3, 'bbox': [0, 0, 8, 8], 'area': 64, 'iscrowd': 0}
        plain['segmentation'] = TRIANGLE
        content = {
            'images': [{'id': 0, 'file_name': '0.jpg', 'width': 16, 'height': 12}],
            'annotations': [{**plain, 'id': 0}, {**plain, 'id': 1, **changes}],
            'categories': [{'id': 3, 'name': 'cat'}],
        }
        file = tmp_path / 'a.json'
        file.write_text(json.dumps(content))
        return CocoDataset(
            ann_file=str(file),
            data_prefix={'img': ''},
            metainfo={'classes': ('cat',)},
            pipeline=[{'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': with_mask}],
        )

    return build


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'bbox': [0, 0, math.inf, 8]}, r'^train: instance 1 of image 0.jpg has the box .*inf.*must be finite'),
        ({'with_mask': True, 'segmentation': []}, 'instance 1 of image 0.jpg has no segmentation'),
        (
            {'with_mask': True, 'iscrowd': 1, 'segmentation': {'size': [16, 12], 'counts': [192]}},
            r'has a mask of height and width \[16, 12\], but its image has \[12, 16\]',
        ),
    ],
)
def test_unusable_instance(coco, changes, message):
    with pytest.raises(DataError, match=message):
        check_instances(coco(**changes), 'train')


@pytest.mark.parametrize('box', [[0, 0, math.nan, 8], [0, 0, -4, 8], [2, 2, 0, 0], [40, 40, 8, 8]])
def test_annotations_left_out_in_silence_are_counted(coco, box, monkeypatch):
    said = []
    monkeypatch.setattr('pelk_mm.preflight.instances.print_log', lambda text, **_: said.append(text))
    check_instances(coco(bbox=box), 'train')
    assert len(said) == 1
    assert said[0].startswith('train: 1 of 2 annotations of the images looked at are left out')


def test_sound_instances_pass_without_a_word(coco, monkeypatch):
    said = []
    monkeypatch.setattr('pelk_mm.preflight.instances.print_log', lambda text, **_: said.append(text))
    check_instances(coco(with_mask=True, segmentation={'size': [12, 16], 'counts': [192]}, iscrowd=1), 'train')
    check_instances(coco(segmentation=[]), 'train')
    check_instances(object(), 'train')
    assert not said
