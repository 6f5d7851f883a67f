"""What a segmentation score is worth: mean IoU over the classes present, and what guessing one class would score."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Score:
    """IoU per class and accuracy of predictions against the truth.

    Args:
        iou: (num_classes,) float64, NaN for classes that the truth does not hold.
        pixel_accuracy: Share of the counted pixels that are right.
    """

    iou: np.ndarray
    pixel_accuracy: float

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur in the truth.

        mmseg's mIoU also counts classes that are only predicted, as 0: the two agree for a net that predicts none.
        """
        return float(np.nanmean(self.iou))


def confusion_matrix(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int, ignore_index: int = 255
) -> np.ndarray:
    """Count pixels by truth and prediction.

    Args:
        pairs: Label maps (truth, prediction) of integers, of equal shape in each pair.
        num_classes: Ids run from 0 to num_classes - 1.
        ignore_index: Truth id of the pixels that are not counted.

    Returns:
        (num_classes, num_classes) int64; rows are the truth, columns the prediction.

    Raises:
        ValueError: Shapes differ, or an id that is counted is out of range.
    """
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for truth, prediction in pairs:
        if truth.shape != prediction.shape:
            raise ValueError(f'truth and prediction must have one shape, got {truth.shape} and {prediction.shape}')
        counted = truth != ignore_index
        t, p = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
        for name, ids in (('truth', t), ('prediction', p)):
            if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
                raise ValueError(f'{name} ids must lie in 0..{num_classes - 1}, got {ids.min()}..{ids.max()}')
        matrix += np.bincount(t * num_classes + p, minlength=num_classes**2).reshape(num_classes, num_classes)
    return matrix


def score(matrix: np.ndarray) -> Score:
    """IoU per class and pixel accuracy from a confusion matrix.

    Args:
        matrix: (num_classes, num_classes), rows are the truth.

    Raises:
        ValueError: The matrix is empty of pixels.
    """
    if matrix.sum() == 0:
        raise ValueError('there is no pixel to score: every one is ignored, or there are no pictures')
    right, truth = np.diag(matrix), matrix.sum(1)
    union = truth + matrix.sum(0) - right
    iou = np.where(truth > 0, right / np.maximum(union, 1), np.nan)
    return Score(iou, float(right.sum() / matrix.sum()))


def most_frequent_class_score(train_pixels: np.ndarray, truth_pixels: np.ndarray) -> Score:
    """The score of calling every pixel the class that is most frequent in training.

    Args:
        train_pixels: (num_classes,) pixels per class in the training labels.
        truth_pixels: (num_classes,) pixels per class in the labels to score against.
    """
    matrix = np.zeros((len(truth_pixels), len(truth_pixels)), np.int64)
    matrix[:, int(np.argmax(train_pixels))] = truth_pixels
    return score(matrix)


def read_labels(path: str | Path, reduce_zero_label: bool = False) -> np.ndarray:
    """Read a label PNG as int64 of shape (H, W).

    Args:
        path: A picture with one channel.
        reduce_zero_label: 0 becomes 255, every other id one less: ADE20K's reading, and how mmseg writes predictions.

    Raises:
        ValueError: The picture has several channels.
    """
    labels = np.asarray(Image.open(path)).astype(np.int64)
    if labels.ndim != 2:
        raise ValueError(f'{path}: a label picture has one channel, got an array of shape {labels.shape}')
    return np.where(labels == 0, 255, labels - 1) if reduce_zero_label else labels


def count_pixels(label_maps: Iterable[np.ndarray], num_classes: int, ignore_index: int = 255) -> np.ndarray:
    """Pixels per class over label maps: (num_classes,) int64."""
    return confusion_matrix(((labels, labels) for labels in label_maps), num_classes, ignore_index).diagonal()
