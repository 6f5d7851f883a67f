"""Scores predictions that lie on disk as pictures, beside the baselines, and shows them next to the truth."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from PIL import Image

from ...utils.pictures import legend_of, paint_labels, sheet
from ...utils.spread import spread
from .baselines import Score, confusion_matrix, count_pixels, most_frequent_class_score, read_labels, score


class LabelledImages:
    """The images of a config's dataset with their truth, as mmseg reads it, and predictions written for them.

    Args:
        dataset_cfg: Of a dataset of mmseg, such as ``cfg.test_dataloader.dataset``. Its pipeline is not run: the truth
            keeps the size it has on disk.
    """

    def __init__(self, dataset_cfg: Mapping[str, Any]) -> None:
        with DefaultScope.overwrite_default_scope('mmseg'):
            self.dataset = DATASETS.build({**dataset_cfg, 'pipeline': []})
            self._load = TRANSFORMS.build({'type': 'LoadAnnotations'})
        self.classes: Sequence[str] = self.dataset.metainfo['classes']
        self.palette = np.array(self.dataset.metainfo['palette'], np.uint8)
        self.ignore_index: int = self.dataset.ignore_index

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> np.ndarray:
        """RGB, uint8 of shape (H, W, 3)."""
        return np.asarray(Image.open(self.dataset.get_data_info(index)['img_path']).convert('RGB'))

    def truth(self, index: int) -> np.ndarray:
        """Label ids as they are trained with, of shape (H, W)."""
        return self._load(self.dataset.get_data_info(index))['gt_seg_map']

    def truths(self) -> Iterator[np.ndarray]:
        """The truth of every image."""
        return (self.truth(i) for i in range(len(self)))

    def prediction(self, index: int, folder: str | Path) -> np.ndarray:
        """What mmseg's IoUMetric wrote for this image with ``output_dir=folder`` (``tools/test.py --out``).

        Raises:
            FileNotFoundError: There is no prediction for this image.
        """
        path = Path(folder, Path(self.dataset.get_data_info(index)['img_path']).stem + '.png')
        if not path.is_file():
            raise FileNotFoundError(f'no prediction {path}: tools/test.py CONFIG CHECKPOINT --out FOLDER writes them')
        return read_labels(path, self.dataset.reduce_zero_label)

    def score(self, folder: str | Path) -> Score:
        """Score the predictions in a folder.

        Raises:
            FileNotFoundError: A prediction is missing.
            ValueError: A prediction does not fit its image; the message names the image.
        """
        total = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for i in range(len(self)):
            pair = self.truth(i), self.prediction(i, folder)
            try:
                total += confusion_matrix([pair], len(self.classes), self.ignore_index)
            except ValueError as error:
                raise ValueError(f'{self.dataset.get_data_info(i)["img_path"]}, {folder}: {error}') from error
        return score(total)

    def pixels(self) -> np.ndarray:
        """Pixels per class in the truth: (num_classes,) int64."""
        return count_pixels(self.truths(), len(self.classes), self.ignore_index)

    def sheet(self, folder: str | Path, count: int, min_width: int = 240) -> Image.Image:
        """A picture of ``count`` images, evenly spaced, with truth and prediction beside each and a legend beneath.

        The legend names the classes that are shown, and what is unlabelled where any of it is.

        Args:
            folder: The predictions.
            count: Number of rows; fewer where there are fewer images.
            min_width: Smaller images are enlarged to this width in pixels.

        Raises:
            FileNotFoundError: A prediction is missing.
        """
        shown = spread(len(self), count, nearest=True)
        labels = [(self.truth(i), self.prediction(i, folder)) for i in shown]
        rows = [
            [self.image(i), *(paint_labels(ids, self.palette) for ids in pair)]
            for i, pair in zip(shown, labels, strict=True)
        ]
        occurring = np.unique(np.concatenate([np.unique(ids) for pair in labels for ids in pair]))
        height, width = np.max([picture.shape[:2] for row in rows for picture in row], axis=0).tolist()
        scale = max(1.0, min_width / width)
        return sheet(
            rows,
            ('image', 'truth', 'prediction'),
            (round(width * scale), round(height * scale)),
            legend=legend_of(occurring, self.palette, self.classes),
        )


def report(
    train: LabelledImages, test: LabelledImages, predictions: str | Path, untrained: str | Path | None = None
) -> str:
    """A table of IoU per class, mean IoU and pixel accuracy, beside what the baselines reach.

    Args:
        train: Training images; their labels say which class is most frequent.
        test: The images that were predicted.
        predictions: Folder with the net's predictions.
        untrained: Folder with the predictions of the same net before training; None leaves that baseline out.

    Raises:
        FileNotFoundError: A prediction is missing.
        ValueError: A prediction does not fit its image, or there is nothing to score.
    """
    frequent, present = train.pixels(), test.pixels()
    columns = {'this net': test.score(predictions)}
    if untrained is not None:
        columns['untrained'] = test.score(untrained)
    columns[f'always {test.classes[int(frequent.argmax())].strip()}'] = most_frequent_class_score(frequent, present)

    head = f'{len(test)} images, {np.count_nonzero(present)} classes present'
    shown = np.flatnonzero(present).tolist()
    width = max(len(head), 22, *(len(test.classes[i]) + 2 for i in shown))
    lines = [f'{head:{width}}' + ''.join(f'{name:>16}' for name in columns)]
    rows: list[tuple[str, list[float]]] = [
        (f'  {test.classes[i].strip()}', [column.iou[i] for column in columns.values()]) for i in shown
    ]
    rows.append(('mean IoU', [column.mean_iou for column in columns.values()]))
    rows.append(('pixel accuracy', [column.pixel_accuracy for column in columns.values()]))
    lines += [f'{name:{width}}' + ''.join(f'{100 * value:14.1f} %' for value in values) for name, values in rows]
    return '\n'.join(lines)
