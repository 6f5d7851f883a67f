"""Pictures of label maps: painted labels, overlays on the image, and sheets of several pictures with a header.

Arrays are RGB, (H, W, 3), uint8; label maps are (H, W) integers. Ids outside the palette (255, the usual "ignore",
among them) are painted black, and an overlay leaves the image as it is there.
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: What the names of images end in, in lower case, where the images of a folder are asked for.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')
Palette = Sequence[Sequence[int]] | np.ndarray


def make_palette(num_classes: int) -> np.ndarray:
    """Distinct colours for classes that come without a palette.

    Hues step by the golden ratio, so that neighbouring ids differ most; the same number always gives the same colours.

    Returns:
        (num_classes, 3) uint8.
    """
    golden = (5**0.5 - 1) / 2
    # Three rings of brightness keep ids apart whose hues have come close to each other.
    colours = [colorsys.hsv_to_rgb((i * golden) % 1.0, 0.85, (1.0, 0.75, 0.5)[i % 3]) for i in range(num_classes)]
    return (np.array(colours).reshape(-1, 3) * 255).round().astype(np.uint8)


def paint_labels(labels: np.ndarray, palette: Palette) -> np.ndarray:
    """Replace every label id by its colour.

    Args:
        labels: (H, W), an integer type.
        palette: (num_classes, 3), values 0 to 255.

    Returns:
        (H, W, 3) uint8; ids without a colour are black.

    Raises:
        TypeError: If ``labels`` are not integers.
        ValueError: If ``labels`` are not two-dimensional or ``palette`` is not (num_classes, 3).
    """
    table, known = _check(labels, palette)
    # One extra black row takes every id that has no colour.
    return np.vstack([table, np.zeros((1, 3), np.uint8)])[np.where(known, labels, len(table))]


def overlay(image: np.ndarray, labels: np.ndarray, palette: Palette, opacity: float = 0.5) -> np.ndarray:
    """Blend the painted labels over an image.

    Args:
        image: (H, W, 3) RGB uint8.
        labels: (H, W) integers.
        palette: (num_classes, 3), values 0 to 255.
        opacity: 0 shows the image alone, 1 the labels alone.

    Returns:
        (H, W, 3) uint8; the image shows through unchanged where an id has no colour.

    Raises:
        TypeError: If ``labels`` are not integers.
        ValueError: If shapes do not fit or ``opacity`` is outside 0 to 1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f'opacity must lie between 0 and 1, but got {opacity}')
    _, known = _check(labels, palette)
    if image.shape != (*labels.shape, 3):
        raise ValueError(f'image must have shape {(*labels.shape, 3)} to fit the labels, but got {image.shape}')
    painted = paint_labels(labels, palette)
    blended = image.astype(np.float32) * (1 - opacity) + painted.astype(np.float32) * opacity
    return np.where(known[..., None], blended.round(), image).astype(np.uint8)


def sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] = (),
    cell_size: tuple[int, int] | None = None,
    gap: int = 6,
) -> Image.Image:
    """Lay pictures out in rows under column titles.

    Args:
        rows: Rows of RGB arrays, all rows equally long.
        titles: One header a column, or none at all.
        cell_size: (width, height) of a cell in pixels; the largest picture's size when not given. Pictures keep their
            aspect ratio: they are shrunk or enlarged to fit, and centred.
        gap: White pixels around every cell.

    Returns:
        A PIL image; ``sheet(...).save(path)`` writes the PNG.

    Raises:
        ValueError: If there is nothing to show, rows differ in length, or titles do not match the columns.
    """
    lengths = {len(row) for row in rows}
    if not rows or lengths == {0}:
        raise ValueError('rows must hold at least one picture, but got none')
    if len(lengths) > 1:
        raise ValueError(f'every row must have the same number of pictures, but got {sorted(lengths)}')
    columns = lengths.pop()
    if titles and len(titles) != columns:
        raise ValueError(f'titles must name each of the {columns} columns, but got {len(titles)}: {list(titles)}')
    pictures = [[Image.fromarray(np.ascontiguousarray(p, dtype=np.uint8)).convert('RGB') for p in row] for row in rows]
    width, height = cell_size or (
        max(p.width for row in pictures for p in row),
        max(p.height for row in pictures for p in row),
    )
    font = ImageFont.load_default(max(12, width // 16))
    header = round(font.size * 1.6) if titles else 0  # type: ignore[union-attr]
    page = Image.new('RGB', (columns * (width + gap) + gap, len(rows) * (height + gap) + gap + header), 'white')
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(titles):
        draw.text((gap + column * (width + gap) + width // 2, gap + header // 2), title, 'black', font, anchor='mm')
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            scale = min(width / picture.width, height / picture.height)
            if scale != 1:
                size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
                picture = picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
            left = gap + j * (width + gap) + (width - picture.width) // 2
            top = gap + header + i * (height + gap) + (height - picture.height) // 2
            page.paste(picture, (left, top))
    return page


def _check(labels: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """Return the palette as an array and the mask of pixels whose id has a colour."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f'labels must be integers, but got {labels.dtype}')
    if labels.ndim != 2:
        raise ValueError(f'labels must have shape (H, W), but got {labels.shape}')
    table = np.asarray(palette)
    if table.ndim != 2 or table.shape[1] != 3:
        raise ValueError(f'palette must have shape (num_classes, 3), but got {table.shape}')
    return table.astype(np.uint8), (labels >= 0) & (labels < len(table))
