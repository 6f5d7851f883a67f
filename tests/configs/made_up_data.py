"""Tiny made-up data sets in the layouts of ImageNet, COCO and CamVid, as small as the configs can train on."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def write_imagenet(root: Path, train: int, val: int) -> None:
    """ImageNet with lists: flat folders and meta/{train,val}.txt, labels all over the thousand classes."""
    for split, images in (('train', train), ('val', val)):
        names = [f'{split}_{i}.JPEG' for i in range(images)]
        for i, name in enumerate(names):
            _save(noise(i, 72, 80), root / split / name)
        labels = np.linspace(0, 999, images, dtype=int)
        (root / 'meta').mkdir(exist_ok=True)
        lines = [f'{name} {label}\n' for name, label in zip(names, labels, strict=True)]
        (root / 'meta' / f'{split}.txt').write_text(''.join(lines))


def write_class_folders(root: Path, classes: int) -> None:
    """One 64x64 image for each class in {train,val}/<class>/."""
    for split in ('train', 'val'):
        for i in range(classes):
            _save(noise(i, 64, 64), root / split / f'n{i:08d}' / '0.JPEG')


def write_camvid(root: Path) -> None:
    """Three images with blocks of labels, void among them, in each of train, val and test."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val', 'test'):
        for i in range(3):
            _save(noise(i, 72, 96), root / split / f'{i}.jpg')
            _save(np.kron(rng.integers(0, 12, (9, 12)), np.ones((8, 8), int)), root / f'{split}annot' / f'{i}.png')


def write_coco(root: Path, categories: tuple[str, ...], images: int) -> None:
    """COCO's layout: each image holds three rectangles of different classes as polygons."""
    ids = {name: 1 + 10 * i for i, name in enumerate(categories)}  # with gaps, as in COCO
    for split in ('train', 'val'):
        infos, annotations = [], []
        for i in range(images):
            picture = Image.fromarray(noise(i, 96, 128).astype(np.uint8))
            infos.append({'id': i + 1, 'file_name': f'{i}.jpg', 'height': 96, 'width': 128})
            for x, y, w, h in ((4, 6, 40, 50), (60, 20, 60, 70), (10, 70, 30, 20)):
                ImageDraw.Draw(picture).rectangle((x, y, x + w, y + h), fill=(9 * x % 256, 7 * y % 256, 200))
                corners = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations.append(
                    {
                        'id': len(annotations) + 1,
                        'image_id': i + 1,
                        'category_id': ids[categories[7 * len(annotations) % len(categories)]],
                        'bbox': [x, y, w, h],
                        'area': w * h,
                        'iscrowd': 0,
                        'segmentation': [corners],
                    }
                )
            _save(np.asarray(picture), root / f'{split}2017' / f'{i}.jpg')
        content = {
            'images': infos,
            'annotations': annotations,
            'categories': [{'id': number, 'name': name} for name, number in ids.items()],
        }
        (root / 'annotations').mkdir(exist_ok=True)
        (root / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(content))


def noise(seed: int, height: int, width: int) -> np.ndarray:
    """An image that is different for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3))


def _save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
