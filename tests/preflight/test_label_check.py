"""Labels beyond num_classes, with the toolboxes' own data sets where they are cheap and stand-ins elsewhere."""

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from PIL import Image
from torch import nn

from pelk_mm.preflight.labels import check_labels
from pelk_mm.utils.errors import DataError


class Head(nn.Module):
    def __init__(self, num_classes, ignore_index=255):
        super().__init__()
        self.num_classes, self.ignore_index = num_classes, ignore_index


class Net(nn.Module):
    def __init__(self, **heads):
        super().__init__()
        for name, head in heads.items():
            setattr(self, name, head)


class Instances:
    """The interface of mmpretrain's and mmdet's data sets that the check relies on."""

    def __init__(self, infos, classes=None):
        self.infos, self.metainfo = infos, {'classes': classes}

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]


@pytest.fixture
def segmentation(tmp_path):
    """Build mmseg's BaseSegDataset over label maps with the given ids."""
    pytest.importorskip('mmseg', reason='reads label maps with mmseg')
    from mmseg.datasets import BaseSegDataset

    def build(*maps, classes=('a', 'b', 'c'), **kwargs):
        for folder in ('img', 'ann'):
            (tmp_path / folder).mkdir(exist_ok=True)
        for i, ids in enumerate(maps):
            Image.fromarray(np.zeros((2, 4, 3), np.uint8)).save(tmp_path / 'img' / f'{i}.jpg')
            Image.fromarray(np.resize(np.array(ids, np.uint8), (2, 4))).save(tmp_path / 'ann' / f'{i}.png')
        reduce = kwargs.get('reduce_zero_label', False)
        from mmengine.registry import init_default_scope

        init_default_scope('mmseg')
        return BaseSegDataset(
            data_root=str(tmp_path),
            data_prefix={'img_path': 'img', 'seg_map_path': 'ann'},
            metainfo={'classes': classes},
            pipeline=[
                {'type': 'LoadImageFromFile'},
                {'type': 'LoadAnnotations', 'reduce_zero_label': reduce},
            ],
            **kwargs,
        )

    return build


def test_label_map_beyond_num_classes(segmentation):
    net = Net(decode_head=Head(3), auxiliary_head=Head(3))
    check_labels(segmentation([0, 1, 2, 255]), net, 'train_dataloader')
    with pytest.raises(DataError) as caught:
        check_labels(segmentation([0, 1], [2, 3, 7]), net, 'train_dataloader')
    message = str(caught.value)
    assert '/ann/1.png (train_dataloader) holds label 3, but decode_head has num_classes=3' in message
    assert 'labels must be 0 to 2, or 255 (ignored). All such labels in this file: [3, 7]' in message


def test_label_map_is_read_as_the_pipeline_reads_it(segmentation):
    net = Net(decode_head=Head(3))
    # 1..3 become 0..2, and 0 becomes 255.
    check_labels(segmentation([0, 1, 2, 3], reduce_zero_label=True), net, 'train_dataloader')
    with pytest.raises(DataError, match='holds label 3'):
        check_labels(segmentation([0, 1, 2, 3]), net, 'train_dataloader')


@pytest.mark.parametrize('shape', [(2, 4, 3), (2, 4)])
def test_label_map_of_colours_or_fractions(segmentation, shape, monkeypatch):
    data = segmentation([0, 1])
    read = np.zeros(shape, np.float32 if len(shape) == 2 else np.uint8)
    monkeypatch.setattr(type(data.pipeline.transforms[1]), '__call__', lambda self, info: {'gt_seg_map': read})
    with pytest.raises(DataError, match=r'0.png \(train\) has shape .* and type .*, but a label map has one channel'):
        check_labels(data, Net(decode_head=Head(3)), 'train')


def test_wrappers_are_looked_through(segmentation):
    dataset = segmentation([5])
    for wrapped in (ConcatDataset([dataset, dataset]), RepeatDataset(dataset, 2)):
        with pytest.raises(DataError, match='holds label 5'):
            check_labels(wrapped, Net(decode_head=Head(3)), 'train_dataloader')


def test_missing_label_map_and_empty_folder(segmentation, tmp_path):
    dataset = segmentation([0], [1])
    (tmp_path / 'ann' / '1.png').unlink()
    with pytest.raises(DataError, match=r'label map .*/ann/1.png \(val_dataloader\) cannot be read: .*No such file'):
        check_labels(dataset, Net(decode_head=Head(3)), 'val_dataloader')
    (tmp_path / 'ann' / '1.png').write_bytes(b'not a picture')
    with pytest.raises(DataError, match='1.png .* cannot be read'):
        check_labels(dataset, Net(decode_head=Head(3)), 'val_dataloader')
    empty = segmentation(img_suffix='.webp', serialize_data=False)
    with pytest.raises(DataError, match=r'train_dataloader is empty: no image found in .*/img.* with suffix .webp'):
        check_labels(empty, Net(), 'train_dataloader')


@pytest.mark.parametrize('num_classes', [2, 150])
def test_class_count_differs_from_a_head(segmentation, num_classes):
    net = Net(decode_head=Head(3), auxiliary_head=Head(num_classes))
    message = f'has 3 classes, but auxiliary_head has num_classes={num_classes}: set num_classes=3'
    with pytest.raises(DataError, match=message):
        check_labels(segmentation([0]), net, 'train_dataloader')


def test_label_map_of_another_size_than_its_image(segmentation, tmp_path):
    dataset = segmentation([0], [1])
    Image.fromarray(np.zeros((4, 2), np.uint8)).save(tmp_path / 'ann' / '1.png')
    with pytest.raises(DataError, match=r'ann/1.png \(train_dataloader\) is 2x4 pixels, but its image .*1.jpg is 4x2'):
        check_labels(dataset, Net(decode_head=Head(3)), 'train_dataloader')


def test_one_hot_labels_have_the_length_of_the_head():
    net = Net(head=Head(20), data_preprocessor=Head(1000))
    check_labels(Instances([{'gt_label': 0}]), net, 'train_dataloader')  # without one-hot labels it is not used
    net.data_preprocessor.to_onehot = True
    with pytest.raises(DataError, match='data_preprocessor has num_classes=1000, but head has num_classes=20: set'):
        check_labels(Instances([{'gt_label': 0}]), net, 'train_dataloader')


def test_class_labels_and_boxes():
    net = Net(head=Head(10))
    check_labels(Instances([{'gt_label': [0, 9]}]), net, 'train_dataloader')
    with pytest.raises(DataError, match=r'a.jpg \(train_dataloader\) holds label 10, but head has num_classes=10'):
        check_labels(Instances([{'img_path': 'a.jpg', 'gt_label': 10}]), net, 'train_dataloader')
    boxes = [{'img_path': 'a.jpg', 'instances': [{'bbox_label': 3}]}, {'img_path': 'b.jpg', 'instances': []}]
    detector = Net(bbox_head=Head(4), rpn_head=Head(1))  # a proposal head knows object and background only
    check_labels(Instances(boxes, classes='abcd'), detector, 'train_dataloader')
    with pytest.raises(DataError, match='a.jpg .* holds label 3, but bbox_head has num_classes=3'):
        check_labels(Instances(boxes), Net(bbox_head=Head(3)), 'train_dataloader')
    with pytest.raises(DataError, match='sample 0 .* holds label -1'):
        check_labels(Instances([{'gt_label': -1}]), net, 'train_dataloader')
