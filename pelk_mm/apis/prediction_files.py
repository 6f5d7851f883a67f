"""The files in which predictions are written: label maps, scores, boxes and overlays."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import VISUALIZERS
from PIL import Image

from ..utils.errors import OutputError
from ..utils.files import atomic_path, claim_folder, write_text_atomic
from ..utils.pictures import legend_of, make_palette, overlay
from .prediction import Found

SUFFIXES = {
    'segmentation': ('_overlay.png', '_labels.png'),
    'classification': ('.json',),
    'detection': ('_overlay.png', '.json'),
}


def choose_files(
    images: list[Path], folder: Path, suffixes: tuple[str, ...], overwrite: bool, page: Path | None = None
) -> dict[Path, tuple[Path, ...]]:
    """Decide where each image's results go, before anything is computed.

    Args:
        images: The inputs.
        folder: Where the results go.
        suffixes: Appended to an image's stem, one for each result.
        overwrite: Results may exist already.
        page: A result that shows all images, if there is to be one.

    Returns:
        The files of each image.

    Raises:
        OutputError: If a result exists or is a folder, two images share one, or one would replace an input.
    """
    claim_folder(folder, overwrite=True)  # other files may lie there
    targets: dict[Path, tuple[Path, ...]] = {}
    owner: dict[Path, Path] = {}
    for image in images:
        targets[image] = tuple(folder / f'{image.stem}{suffix}' for suffix in suffixes)
        other = owner.setdefault(targets[image][0], image)
        if other != image:
            raise OutputError(f'{other.name} and {image.name} would both be written to {targets[image][0].name}')
    results = [file for files in targets.values() for file in files] + ([page] if page else [])
    existing = [file for file in results if file.exists()]
    if existing and not overwrite:
        raise OutputError(
            f'--out-dir {folder} already holds {len(existing)} of the results, {existing[0].name} first: '
            'pass --overwrite to replace them, or another --out-dir'
        )
    if folders := [file for file in existing if file.is_dir()]:
        raise OutputError(f'{folders[0]} is a folder, not a file: choose another --out-dir')
    inputs = {image.resolve() for image in images}
    if clash := [file for file in results if file.resolve() in inputs]:
        raise OutputError(f'result {clash[0]} would replace an input image: choose another --out-dir')
    return targets


def write_labels(meta: dict, sample: Any, image: np.ndarray, files: tuple[Path, ...], opacity: float) -> Found:
    """Write the overlay and the raw label map (8 bits; 16 where there are more than 256 classes).

    Args:
        meta: 'classes' and 'palette', where they are known.
        sample: A ``SegDataSample`` with its prediction.
        image: (H, W, 3) RGB uint8.
        files: Overlay and label map.
        opacity: Of the labels in the overlay.

    Returns:
        The three largest classes in one line, and the legend of all.
    """
    labels = sample.pred_sem_seg.data[0].cpu().numpy()
    classes = meta.get('classes') or ()
    palette = meta.get('palette')
    largest = max(len(classes), int(labels.max()) + 1)
    if palette is None or len(palette) < largest:
        palette = make_palette(largest)
    _save_picture(overlay(image, labels, palette, opacity), files[0])
    _save_picture(labels.astype(np.uint8 if largest <= 256 else np.uint16), files[1])
    ids, counts = np.unique(labels, return_counts=True)
    top = sorted(zip(counts, ids, strict=True), reverse=True)[:3]
    summary = ', '.join(f'{_name(classes, i)} {100 * count / labels.size:.0f} %' for count, i in top)
    return Found(summary, legend_of(ids, palette, classes))


def write_classes(meta: dict, sample: Any, files: tuple[Path, ...]) -> Found:
    """Write the five best classes as JSON.

    Args:
        meta: 'classes', where they are known.
        sample: mmpretrain's ``DataSample`` with its scores.
        files: The JSON file.

    Returns:
        The best class in one line, and the five with their scores.
    """
    classes = meta.get('classes') or ()
    scores, ids = sample.pred_score.cpu().float().topk(min(5, len(sample.pred_score)))
    best = tuple((_name(classes, int(i)), float(score)) for score, i in zip(scores, ids, strict=True))
    top = [{'label': int(i), 'class': name, 'score': score} for i, (name, score) in zip(ids, best, strict=True)]
    write_text_atomic(files[0], json.dumps({'top5': top}, indent=2) + '\n')
    return Found(f'{best[0][0]} {best[0][1]:.3f}', top=best)


def write_boxes(
    meta: dict, sample: Any, image: np.ndarray, files: tuple[Path, ...], opacity: float, score_thr: float
) -> Found:
    """Write the overlay, and as JSON the boxes (x1, y1, x2, y2 in pixels), labels and scores.

    Args:
        meta: 'classes' and 'palette', where they are known.
        sample: A ``DetDataSample`` with its prediction.
        image: (H, W, 3) RGB uint8.
        files: Overlay and JSON file.
        opacity: Of the painted boxes and masks.
        score_thr: Boxes below are left out of both.

    Returns:
        The number of boxes in one line.
    """
    instances = sample.pred_instances
    instances = instances[instances.scores >= score_thr].cpu()
    classes = meta.get('classes') or ()
    boxes = [
        {'box': [round(float(x), 2) for x in box], 'label': int(i), 'class': _name(classes, int(i)), 'score': float(s)}
        for box, i, s in zip(instances.bboxes, instances.labels, instances.scores, strict=True)
    ]
    visualizer = VISUALIZERS.build({'type': 'mmdet.DetLocalVisualizer', 'name': 'predict', 'alpha': opacity})
    visualizer.dataset_meta = meta
    with atomic_path(files[0]) as partial:
        visualizer.add_datasample('predict', image, sample, draw_gt=False, show=False, pred_score_thr=score_thr)
        Image.fromarray(visualizer.get_image()).save(partial, format='PNG')
    write_text_atomic(files[1], json.dumps({'boxes': boxes}, indent=2) + '\n')
    return Found(f'{len(boxes)} box(es)')


def _save_picture(array: np.ndarray, path: Path) -> None:
    with atomic_path(path) as partial:
        Image.fromarray(array).save(partial, format='PNG')


def _name(classes: Any, label: int) -> str:
    return str(classes[label]) if label < len(classes) else str(label)
