import numpy as np
import pytest
from PIL import Image

from pelk_mm.analysis.scores.baselines import (
    confusion_matrix,
    count_pixels,
    most_frequent_class_score,
    read_labels,
    score,
)

TRUTH = np.array([[0, 0, 1], [1, 2, 255]])
PREDICTION = np.array([[0, 1, 1], [1, 3, 0]])


def test_hand_computed_scores():
    matrix = confusion_matrix([(TRUTH, PREDICTION)], num_classes=5)
    assert matrix.tolist() == [[1, 1, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, 1, 0], [0] * 5, [0] * 5]
    result = score(matrix)
    # Class 3 is predicted but never true, class 4 neither: both stay out of the mean.
    np.testing.assert_allclose(result.iou, [1 / 2, 2 / 3, 0, np.nan, np.nan])
    assert result.mean_iou == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert result.pixel_accuracy == pytest.approx(3 / 5)


def test_pairs_add_up():
    pairs = [(TRUTH, PREDICTION), (TRUTH[:1], TRUTH[:1])]
    total = sum(confusion_matrix([pair], 4) for pair in pairs)
    np.testing.assert_array_equal(confusion_matrix(pairs, 4), total)


def test_most_frequent_class():
    result = most_frequent_class_score(np.array([5, 9, 1]), np.array([6, 3, 0]))
    np.testing.assert_allclose(result.iou, [0, 3 / 9, np.nan])
    assert result.mean_iou == pytest.approx(1 / 6)
    assert result.pixel_accuracy == pytest.approx(3 / 9)


def test_agrees_with_mmseg_where_no_absent_class_is_predicted():
    metric = pytest.importorskip('mmseg.evaluation', reason='needs mmsegmentation').IoUMetric
    torch = pytest.importorskip('torch')
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 4, (9, 7)), rng.integers(0, 4, (9, 7))) for _ in range(3)]
    areas = [metric.intersect_and_union(torch.tensor(p), torch.tensor(t), 6, 255) for t, p in pairs]
    theirs = metric.total_area_to_metrics(*(sum(a) for a in zip(*areas, strict=True)))
    ours = score(confusion_matrix(pairs, 6))
    assert ours.mean_iou == pytest.approx(np.nanmean(theirs['IoU']), rel=1e-6)
    assert ours.pixel_accuracy == pytest.approx(float(theirs['aAcc']), rel=1e-6)


def test_count_pixels_leaves_out_the_ignored():
    assert count_pixels([TRUTH, TRUTH[:1]], 4).tolist() == [4, 3, 1, 0]


def test_read_labels(tmp_path):
    Image.fromarray(np.array([[0, 1, 150]], np.uint8)).save(tmp_path / 'a.png')
    assert read_labels(tmp_path / 'a.png').tolist() == [[0, 1, 150]]
    assert read_labels(tmp_path / 'a.png', reduce_zero_label=True).tolist() == [[255, 0, 149]]
    Image.new('RGB', (3, 3)).save(tmp_path / 'rgb.png')
    with pytest.raises(ValueError, match='rgb.png.*one channel'):
        read_labels(tmp_path / 'rgb.png')


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'one shape, got \(2, 3\) and \(1, 3\)'):
        confusion_matrix([(TRUTH, PREDICTION[:1])], 4)
    with pytest.raises(ValueError, match=r'prediction ids must lie in 0..2, got 0..3'):
        confusion_matrix([(TRUTH, PREDICTION)], 3)
    with pytest.raises(ValueError, match='no pixel to score'):
        score(np.zeros((3, 3), np.int64))
