import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg', reason='the report reads data sets of mmsegmentation')

from pelk_mm.analysis.scores.segmentation_report import LabelledImages, report
from pelk_mm.datasets import TOY_CLASSES, ToyDataset, write_toy_dataset

SPEC = ToyDataset(train=8, val=7, size=64)
CLASSES = tuple(TOY_CLASSES)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp('toy')
    write_toy_dataset(path, SPEC)
    return path


def labelled(root, split, classes=None):
    cfg = {
        'type': 'ADE20KDataset',
        'data_root': str(root),
        'data_prefix': {'img_path': f'images/{split}', 'seg_map_path': f'annotations/{split}'},
    }
    return LabelledImages(cfg if classes is None else {**cfg, 'metainfo': {'classes': classes}})


def ids_of(labels, classes):
    """What is trained with: ids from 0 in the order of ``classes``, 255 for other."""
    order = range(1, 151) if classes is None else [TOY_CLASSES[name] for name in classes]
    ids = np.full(labels.shape, 255)
    for new, old in enumerate(order):
        ids[labels == old] = new
    return ids


def write_predictions(folder, predict, classes):
    """Write ids + 1, as mmseg's IoUMetric does for a data set with reduce_zero_label."""
    folder.mkdir()
    for i in range(SPEC.val):
        ids = predict(ids_of(SPEC.scene('validation', i)[1], classes))
        Image.fromarray((ids + 1).astype(np.uint8)).save(folder / f'ADE_val_{i + 1:08d}.png')
    return folder


@pytest.mark.parametrize('classes', [None, CLASSES], ids=['150 classes', '9 classes'])
def test_truth_is_what_mmseg_trains_with(root, classes):
    images = labelled(root, 'validation', classes)
    assert len(images) == 7
    for i in range(7):
        image, labels = SPEC.scene('validation', i)
        np.testing.assert_array_equal(images.truth(i), ids_of(labels, classes))
        assert abs(images.image(i).astype(int) - image).mean() < 5  # RGB, not BGR
    assert images.pixels().sum() == sum((ids != 255).sum() for ids in images.truths())


@pytest.mark.parametrize('classes', [None, CLASSES], ids=['150 classes', '9 classes'])
def test_perfect_predictions_score_one(root, classes, tmp_path):
    images = labelled(root, 'validation', classes)
    folder = write_predictions(tmp_path / 'out', lambda ids: np.where(ids == 255, 0, ids), classes)
    assert images.score(folder).mean_iou == 1
    assert images.score(folder).pixel_accuracy == 1


def test_report_shows_net_and_baselines(root, tmp_path):
    train, test = labelled(root, 'training', CLASSES), labelled(root, 'validation', CLASSES)
    sky, boat = CLASSES.index('sky'), CLASSES.index('boat')
    good = write_predictions(tmp_path / 'good', lambda ids: np.where(ids == 255, sky, ids), CLASSES)
    poor = write_predictions(tmp_path / 'poor', lambda ids: np.full_like(ids, boat), CLASSES)
    pixels = test.pixels()
    frequent = int(train.pixels().argmax())
    share = {i: 100 * pixels[i] / pixels.sum() for i in (frequent, boat)}
    lines = report(train, test, good, poor).splitlines()
    assert lines[0].split() == f'7 images, 9 classes present this net untrained always {CLASSES[frequent]}'.split()
    table = {line.rsplit('%', 3)[0].rsplit(None, 1)[0].strip(): line.split()[-6::2] for line in lines[1:]}
    assert set(table) == {*CLASSES, 'mean IoU', 'pixel accuracy'}
    assert table['mean IoU'] == ['100.0', f'{share[boat] / 9:.1f}', f'{share[frequent] / 9:.1f}']
    assert table['pixel accuracy'] == ['100.0', f'{share[boat]:.1f}', f'{share[frequent]:.1f}']
    assert table['boat'][:2] == ['100.0', f'{share[boat]:.1f}']
    assert 'untrained' not in report(train, test, good)


def test_sheet_shows_image_truth_and_prediction(root, tmp_path):
    images = labelled(root, 'validation', CLASSES)
    sea = CLASSES.index('sea')
    folder = write_predictions(tmp_path / 'out', lambda ids: np.full_like(ids, sea), CLASSES)
    page = images.sheet(folder, count=3, min_width=128)
    pixels = np.asarray(page)
    assert page.width > 3 * 128
    assert page.height > 3 * 128
    last_column = pixels[:, -136:].reshape(-1, 3)  # with its gap
    assert (last_column == images.palette[sea]).all(1).sum() == 3 * 128 * 128
    assert images.sheet(folder, count=50).height > images.sheet(folder, count=3).height


def test_the_sheet_explains_the_colours_it_shows(root, tmp_path, monkeypatch):
    """Of 150 classes those of the truth and of the predictions shown, and that some of the truth has no label."""
    legends = []
    monkeypatch.setattr(
        'pelk_mm.analysis.scores.segmentation_report.sheet', lambda *_, legend: legends.append(dict(legend))
    )
    images = labelled(root, 'validation')
    folder = write_predictions(tmp_path / 'out', lambda ids: np.full_like(ids, 140), None)
    images.sheet(folder, count=1)
    ids = np.unique(ids_of(SPEC.scene('validation', 0)[1], None))
    shown = sorted({*ids.tolist(), 140} - {255})
    assert len(shown) < 9
    assert list(legends[0]) == [images.classes[i].strip() for i in shown] + ['unlabelled'] * (255 in ids)
    assert legends[0]['sky'] == tuple(images.palette[images.classes.index('sky')])
    images.sheet(folder, count=7)
    assert {name for name in legends[1] if name != 'unlabelled'} == {*CLASSES, images.classes[140].strip()}


def test_missing_prediction_is_named(root, tmp_path):
    images = labelled(root, 'validation', CLASSES)
    with pytest.raises(FileNotFoundError, match=r'no prediction .*ADE_val_00000001.png.*tools/test.py'):
        images.score(tmp_path)
