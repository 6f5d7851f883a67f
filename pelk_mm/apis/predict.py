"""The work of ``tools/predict.py``: images in, pictures and raw predictions out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image, ImageOps

from ..engine.config import load_config, task_of
from ..utils.errors import ConfigError, DataError
from ..utils.pictures import IMAGE_SUFFIXES
from .load_model import build_test_pipeline, load_model
from .prediction_files import SUFFIXES, choose_files, write_boxes, write_classes, write_labels


@dataclass(frozen=True)
class Prediction:
    """What became of one image.

    Attributes:
        image: The input.
        outputs: The files written for it; empty if it was skipped.
        error: Why it was skipped.
        summary: One line about what was found.
    """

    image: Path
    outputs: tuple[Path, ...] = ()
    error: str | None = None
    summary: str = ''


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
) -> Iterator[Prediction]:
    """Predict one image or all images of a folder, and write the results.

    Segmentors: ``<name>_overlay.png`` and ``<name>_labels.png``, the label map at the image's size (8 bits, 16 where
    there are more than 256 classes). Classifiers: ``<name>.json`` with the five best classes. Detectors:
    ``<name>_overlay.png`` and ``<name>.json`` with boxes (x1, y1, x2, y2 in pixels), labels and scores.

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
        UserError: One of its kinds, before the first image.
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
    targets = choose_files(images, Path(out_dir), SUFFIXES[task], overwrite)
    model: Any = load_model(cfg, checkpoint, device, deploy, trust_checkpoint)
    pipeline = build_test_pipeline(cfg)
    for image, files in targets.items():
        try:
            with Image.open(image) as picture:
                # The pipeline's decoder turns a picture by its EXIF entry; the overlay must agree.
                array = np.asarray(ImageOps.exif_transpose(picture).convert('RGB'))
            data = pipeline({'img_path': str(image), 'img_id': 0})
        except Exception as error:  # decoders raise what they like on damaged files
            reason = str(error).strip().split('\n')[0] or type(error).__name__
            yield Prediction(image, error=f'cannot be read as an image: {reason}')
            continue
        with torch.no_grad():
            sample = model.test_step(pseudo_collate([data]))[0]
        if task == 'segmentation':
            summary = write_labels(model.dataset_meta, sample, array, files, opacity)
        elif task == 'classification':
            summary = write_classes(model.dataset_meta, sample, files)
        else:
            summary = write_boxes(model.dataset_meta, sample, array, files, opacity, score_thr)
        yield Prediction(image, files, summary=summary)


def find_images(path: str) -> list[Path]:
    """List the image itself, or the images directly in a folder, sorted by name.

    Raises:
        DataError: If the path does not exist or the folder holds no image.
    """
    source = Path(path)
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f'input {path} does not exist (looked for {source.resolve()})')
    images = sorted(file for file in source.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f'input folder {path} holds no image: none of its files ends in {", ".join(IMAGE_SUFFIXES)}')
    return images
