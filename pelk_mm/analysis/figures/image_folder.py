"""Images of a folder as input of a backbone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ...utils.pictures import IMAGE_SUFFIXES
from ...utils.spread import spread


def list_images(folder: str | Path, count: int) -> list[Path]:
    """Up to ``count`` image files below a folder, evenly spaced in the order of their paths.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: ``count`` is below 1, or the folder holds no image.
    """
    if count < 1:
        raise ValueError(f'the number of images must be at least 1, but got {count}')
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'image folder {folder} does not exist, or is not a folder')
    paths = sorted(path for path in Path(folder).rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not paths:
        raise ValueError(f'image folder {folder} holds no image: no file below it ends in {", ".join(IMAGE_SUFFIXES)}')
    return [paths[i] for i in spread(len(paths), count, nearest=True)]


def read_image(path: str | Path, size: int, mean: Sequence[float], std: Sequence[float], rgb: bool = True) -> Tensor:
    """Read an image, resize it to a square, aspect ratio not kept, and normalise it.

    Args:
        path: Of the image; grey ones get three equal channels.
        size: Side in pixels.
        mean, std: A value for each of the three channels, in the order of the output.
        rgb: Channel order of the output: RGB, else BGR.

    Returns:
        (1, 3, size, size) float32.

    Raises:
        ValueError: The file is no image that can be read.
    """
    try:
        with Image.open(path) as image:
            picture = image.convert('RGB').resize((size, size), Image.Resampling.BICUBIC)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f'image {path} cannot be read: {str(error) or type(error).__name__}') from error
    pixels = np.asarray(picture, np.float32)[..., :: 1 if rgb else -1]
    normalised = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))[None]
