"""The work of ``tools/predict.py``: images in, pictures and raw predictions out."""

import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image, ImageOps

from ..engine.config import load_config, task_of
from ..utils.errors import ConfigError, DataError
from ..utils.files import write_files
from ..utils.pictures import IMAGE_SUFFIXES
from .load_model import build_test_pipeline, load_model
from .prediction import Prediction
from .prediction_files import SUFFIXES, choose_files, write_boxes, write_classes, write_labels
from .prediction_page import page_html, page_path


def predict(
    config: str,
    checkpoint: str,
    input: str,  # noqa: A002 - the tool's own word
    out_dir: str,
    device: str | None = None,
    opacity: float = 0.5,
    score_thr: float = 0.3,
    deploy: bool = False,
    overwrite: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    trust_checkpoint: bool = False,
) -> Generator[Prediction, None, None]:
    """Predict one image or all images of a folder, and write the results.

    Segmentors: ``<name>_overlay.png`` and ``<name>_labels.png``, the label map at the image's size (8 bits, 16 where
    there are more than 256 classes). Classifiers: ``<name>.json`` with the five best classes. Detectors:
    ``<name>_overlay.png`` and ``<name>.json`` with boxes (x1, y1, x2, y2 in pixels), labels and scores. A folder's
    results get a page to look through, ``index.html``, written at the end; when the generator is closed or fails before
    that, the page shows what is done.

    Args:
        config: Path of the config file; its ``default_scope`` decides the task.
        checkpoint: Path of a checkpoint, a deployed one included.
        input: An image, or a folder; the folder's own images are taken, not those of its sub-folders.
        out_dir: Folder for the results.
        device: Such as 'cpu' or 'cuda:0'; the first GPU by default, where there is one.
        opacity: Of the painted labels, 0 to 1.
        score_thr: Boxes below this score are neither painted nor written.
        deploy: Predict in the deployed form.
        overwrite: Replace results of the same names.
        cfg_options: Dotted names and values merged into the config.
        trust_checkpoint: Unpickle the checkpoint without restriction.

    Yields:
        One ``Prediction`` an image, as they are done; an unreadable image gives one with ``error``.

    Raises:
        UserError: One of its kinds, before the first image, or where the page cannot be written.
    """
    for name, value in (('opacity', opacity), ('score_thr', score_thr)):
        if not 0 <= value <= 1:
            raise ConfigError(f'--{name.replace("_", "-")} must lie between 0 and 1, but got {value}')
    images = find_images(input)
    cfg = load_config(config, cfg_options)
    task = task_of(cfg)
    if task is None:
        raise ConfigError(
            f'config {config} has default_scope {cfg.get("default_scope")!r}: '
            'predictions need one of mmpretrain, mmseg and mmdet'
        )
    page = page_path(input, out_dir)
    targets = choose_files(images, Path(out_dir), SUFFIXES[task], overwrite, page)
    model: Any = load_model(cfg, checkpoint, device, deploy, trust_checkpoint)
    pipeline = build_test_pipeline(cfg)
    done: list[Prediction] = []
    try:
        for image, files in targets.items():
            done.append(_predict_image(model, task, pipeline, image, files, opacity, score_thr))
            yield done[-1]
    finally:
        if page and done:
            write_files({page: page_html(done, len(targets), config, checkpoint, page.parent)})


def _predict_image(
    model: Any, task: str, pipeline: Any, image: Path, files: tuple[Path, ...], opacity: float, score_thr: float
) -> Prediction:
    """Predict one image and write its files."""
    try:
        with Image.open(image) as picture:
            # The pipeline's decoder turns a picture by its EXIF entry; the overlay must agree.
            array = np.asarray(ImageOps.exif_transpose(picture).convert('RGB'))
        data = pipeline({'img_path': str(image), 'img_id': 0})
    except Exception as error:  # decoders raise what they like on damaged files
        reason = str(error).strip().split('\n')[0] or type(error).__name__
        return Prediction(image, error=f'cannot be read as an image: {reason}')
    with torch.no_grad():
        sample = model.test_step(pseudo_collate([data]))[0]
    if task == 'segmentation':
        found = write_labels(model.dataset_meta, sample, array, files, opacity)
    elif task == 'classification':
        found = write_classes(model.dataset_meta, sample, files)
    else:
        found = write_boxes(model.dataset_meta, sample, array, files, opacity, score_thr)
    return Prediction(image, files, found=found, size=(array.shape[1], array.shape[0]))


def find_images(path: str) -> list[Path]:
    """List the image itself, or the images directly in a folder, sorted by name.

    Raises:
        DataError: If the path does not exist or the folder holds no image.
    """
    source = Path(path)
    if os.path.isfile(source):  # unlike the method of Path false, not an error, for a name that cannot be
        return [source]
    if not os.path.isdir(source):
        raise DataError(f'input {path} does not exist (looked for {os.path.abspath(source)})')
    images = sorted(file for file in source.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f'input folder {path} holds no image: none of its files ends in {", ".join(IMAGE_SUFFIXES)}')
    return images
