"""Writing toy scenes as a data set in the layout and numbering of ADEChallengeData2016."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .toy_scenes import MIN_SIZE, OBJECTS, make_scene

MANIFEST = 'toy_scenes.json'


@dataclass(frozen=True)
class ToyDataset:
    """What determines a toy data set; equal values give equal files, byte for byte with the same Pillow.

    Args:
        train: Number of training scenes, at least 7 so that every class occurs.
        val: Number of held-out scenes, at least 7. The training scenes do not depend on it, nor it on them.
        size: Height and width of a scene in pixels, at least 64.
        seed: Non-negative seed.

    Raises:
        ValueError: One of them is out of range.
    """

    train: int = 200
    val: int = 40
    size: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ('train', 'val'):
            count = getattr(self, name)
            if not len(OBJECTS) <= count <= 99_999_999:
                raise ValueError(f'{name} must be at least {len(OBJECTS)}, or a class would be missing; got {count}')
        if self.size < MIN_SIZE:
            raise ValueError(f'size must be at least {MIN_SIZE} pixels, got {self.size}')
        if self.seed < 0:
            raise ValueError(f'seed must not be negative, got {self.seed}')

    def scene(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and labels of one scene, see ``make_scene``.

        Args:
            split: ``'training'`` or ``'validation'``.
            index: Number of the scene in its split, from 0.
        """
        rng = np.random.default_rng([self.seed, ('training', 'validation').index(split), index])
        return make_scene(rng, self.size, required=OBJECTS[index % len(OBJECTS)])

    def files(self) -> dict[tuple[str, int], tuple[str, str]]:
        """Image and label path of every scene, relative to the data set's folder, keyed by split and index."""
        return {
            (split, i): (
                f'images/{split}/ADE_{short}_{i + 1:08d}.jpg',
                f'annotations/{split}/ADE_{short}_{i + 1:08d}.png',
            )
            for split, short, count in (('training', 'train', self.train), ('validation', 'val', self.val))
            for i in range(count)
        }


def write_toy_dataset(root: str | Path, spec: ToyDataset, overwrite: bool = False) -> None:
    """Write ``images/{training,validation}/*.jpg`` and ``annotations/{training,validation}/*.png`` below ``root``.

    A manifest, ``toy_scenes.json``, tells which files are ours. Nothing else is ever replaced or deleted.

    Args:
        root: Folder to write to; made if missing.
        spec: What to write.
        overwrite: Replace a toy data set that lies there, also one that was left half written.

    Raises:
        FileExistsError: ``root`` is a file, or not empty and either ``overwrite`` is False or it holds files among the
            images and labels that this function did not write.
    """
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise FileExistsError(f'{root} is a file; give a folder to write the data set to')
    if root.is_dir() and any(root.iterdir()):
        if not overwrite:
            raise FileExistsError(f'{root} is not empty; give another folder, or --overwrite to replace a toy data set')
        _clear(root)
    files = spec.files()
    for folder in {str(Path(path).parent) for pair in files.values() for path in pair}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    # Before the first scene: an interrupted run leaves files that the next one may replace.
    (root / MANIFEST).write_text(json.dumps(asdict(spec), indent=1) + '\n')
    for (split, i), (image_path, label_path) in files.items():
        image, labels = spec.scene(split, i)
        Image.fromarray(image).save(root / image_path, quality=95, subsampling=0)
        Image.fromarray(labels).save(root / label_path)


def _clear(root: Path) -> None:
    """Delete the toy data set below ``root``, after making sure that it is one and nothing else lies among it."""
    try:
        old = ToyDataset(**json.loads((root / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise FileExistsError(
            f'{root} is not empty and has no valid {MANIFEST}, so it is not a toy data set; give another folder'
        ) from error
    ours = {root / path for pair in old.files().values() for path in pair}
    present = {path for top in ('images', 'annotations') for path in (root / top).rglob('*') if not path.is_dir()}
    if foreign := sorted(present - ours):
        raise FileExistsError(f'{root} holds files that were not written as a toy data set, such as {foreign[0]}')
    for path in present:
        path.unlink()
