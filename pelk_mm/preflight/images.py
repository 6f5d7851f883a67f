"""Are the images of a data set where its annotations say, and of the size they say?"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ..utils.errors import DataError
from ..utils.spread import spread

_EXIF_ORIENTATION = 0x0112
# Formats that every reader understands: one of these that Pillow cannot open is damaged, not exotic.
_COMMON = {'.bmp', '.jpeg', '.jpg', '.png'}


def check_images(dataset: Any, loader: str, look_up: int = 1000, read: int = 50) -> None:
    """Look up a sample of the images, and compare the sizes of fewer with the annotations.

    Only headers are read. Data on a remote or packed storage back-end pass.

    Args:
        dataset: A built data set, no wrapper.
        loader: Where it comes from, for messages.
        look_up: How many images must exist.
        read: How many of them are opened.

    Raises:
        DataError: If images are missing or damaged, or have another size than ``width`` and ``height`` of their entry.
    """
    if not hasattr(dataset, 'get_data_info') or not _is_local(dataset):
        return
    indices = spread(len(dataset), look_up)
    infos = [info for info in map(dataset.get_data_info, indices) if _has_local_path(info)]
    missing = [info['img_path'] for info in infos if not os.path.exists(info['img_path'])]
    if missing:
        listed = f' that {dataset.ann_file} lists' if getattr(dataset, 'ann_file', '') else ''
        raise DataError(
            f'{len(missing)} of {len(infos)} sampled images of {loader}{listed} are missing, the first is {missing[0]}'
            ': do data_root, data_prefix and ann_file belong together?'
        )
    for index in spread(len(infos), read) if infos else []:
        info = infos[index]
        stated = (info.get('width'), info.get('height'))
        sizes = image_sizes(info['img_path'], loader)
        if None not in stated and sizes and stated not in sizes:
            raise DataError(
                f'image {info["img_path"]} ({loader}) is {_times(sizes[0])} pixels, but its annotations are for '
                f'{_times(stated)}: are these the images that {getattr(dataset, "ann_file", "the annotations")} was '
                'made for?'
            )


def image_sizes(path: str, loader: str) -> list[tuple[int, int]]:
    """Read the (width, height) of an image from its header.

    Returns:
        The stored size; also the turned one where the file asks to be shown on its side, which readers and annotators
        honour or not. Empty for a format that Pillow does not know.

    Raises:
        DataError: If a file in a common format cannot be read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
    except (OSError, UnidentifiedImageError, SyntaxError) as error:  # SyntaxError is Pillow's word for a broken PNG
        if Path(path).suffix.lower() not in _COMMON:
            return []
        raise DataError(f'image {path} ({loader}) cannot be read: {error}') from error
    return [(width, height), (height, width)] if turned else [(width, height)]


def _has_local_path(info: dict) -> bool:
    return isinstance(info.get('img_path'), str) and '://' not in info['img_path']


def _is_local(dataset: Any) -> bool:
    """Tell whether paths of the data set are files: neither it nor its loading transforms name another back-end."""
    return all((args or {}).get('backend', 'local') in ('local', 'disk') for args in _backend_args(dataset))


def _backend_args(dataset: Any) -> Iterator[dict | None]:
    for owner in (dataset, *getattr(getattr(dataset, 'pipeline', None), 'transforms', [])):
        for name in ('backend_args', 'file_client_args'):
            yield getattr(owner, name, None)


def _times(size: tuple[Any, Any]) -> str:
    return f'{size[0]}x{size[1]}'
