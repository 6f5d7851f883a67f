"""Are the boxes and masks of a detection data set usable? mmdet leaves some out in silence and trips over others."""

import logging
import math
from collections import Counter
from typing import Any

from mmengine.logging import print_log

from ..utils.errors import DataError
from ..utils.spread import spread


def check_instances(dataset: Any, loader: str, read: int = 1000) -> None:
    """Look at the boxes and masks of a sample of the images, as the data set has read them.

    mmdet's ``CocoDataset`` leaves out annotations whose box is NaN, outside of the image or smaller than a pixel; that
    is a warning.

    Args:
        dataset: A built data set, no wrapper. One without ``instances`` passes.
        loader: Where it comes from, for messages.
        read: How many images are looked at.

    Raises:
        DataError: If a box is not finite, a run-length mask has another size than its image, or a mask is missing where
            the pipeline reads masks.
    """
    if not hasattr(dataset, 'get_data_info'):
        return
    masks = _reads_masks(dataset)
    declared = _declared(dataset)
    kept = total = 0
    for index in spread(len(dataset), read):
        info = dataset.get_data_info(index)
        instances = info.get('instances') or []
        for place, instance in enumerate(instances):
            reason = _fault(instance, info, masks)
            if reason:
                raise DataError(f'{loader}: instance {place} of image {info.get("img_path", index)} {reason}')
        kept += len(instances)
        total += declared[info.get('img_id')]
    if kept < total:
        print_log(
            f'{loader}: {total - kept} of {total} annotations of the images looked at are left out by the data set: '
            'marked to ignore, without area, or with a box that is NaN, outside of the image or smaller than a pixel',
            logger='current',
            level=logging.WARNING,
        )


def _fault(instance: dict, info: dict, masks: bool) -> str | None:
    box, mask = instance.get('bbox'), instance.get('mask')
    if box is not None and not all(math.isfinite(value) for value in box):
        return f'has the box {box}: its numbers must be finite'
    if not masks:
        return None
    if mask is None:
        return 'has no segmentation, but the pipeline reads masks (with_mask=True)'
    size = mask.get('size') if isinstance(mask, dict) else None
    if size is not None and list(size) != [info['height'], info['width']]:
        return f'has a mask of height and width {list(size)}, but its image has {[info["height"], info["width"]]}'
    return None


def _reads_masks(dataset: Any) -> bool:
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    return any(getattr(transform, 'with_mask', False) for transform in transforms)


def _declared(dataset: Any) -> Counter:
    """Count the annotations of each image in the file, of the data set's classes."""
    images = getattr(dataset, 'cat_img_map', {})
    return Counter(image for key in getattr(dataset, 'cat_ids', ()) for image in images.get(key, ()))
