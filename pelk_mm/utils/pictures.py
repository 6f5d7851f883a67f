"""Pictures of label maps: painted labels, overlays on the image, and sheets of several pictures with header and legend.

Arrays are RGB, (H, W, 3), uint8; label maps are (H, W) integers. Ids outside the palette (255, the usual "ignore",
among them) are painted black, and an overlay leaves the image as it is there.
"""

import colorsys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: What the names of images end in, in lower case, where the images of a folder are asked for.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')
Palette = Sequence[Sequence[int]] | np.ndarray
#: Names and their colours, (red, green, blue) from 0 to 255.
Legend = Sequence[tuple[str, tuple[int, int, int]]]


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


def legend_of(ids: Iterable[int], palette: Palette, classes: Sequence[str] = ()) -> Legend:
    """What the colours of painted labels mean.

    Args:
        ids: The label ids that occur, in any order and any number.
        palette: (num_classes, 3), values 0 to 255.
        classes: Their names; an id beyond them is called by its number.

    Returns:
        An entry a class, by ascending id; last 'unlabelled', black, where an id has no colour.
    """
    found = sorted({int(i) for i in ids})
    known = [i for i in found if 0 <= i < len(palette)]
    names = [str(classes[i]).strip() if i < len(classes) else str(i) for i in known]
    colours = [(int(red), int(green), int(blue)) for red, green, blue in (palette[i] for i in known)]
    rest = [('unlabelled', (0, 0, 0))] if len(known) < len(found) else []
    return (*zip(names, colours, strict=True), *rest)


def sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] = (),
    cell_size: tuple[int, int] | None = None,
    gap: int = 6,
    legend: Legend = (),
) -> Image.Image:
    """Lay pictures out in rows under column titles, and above a legend.

    Args:
        rows: Rows of RGB arrays, all rows equally long.
        titles: One header a column, or none at all.
        cell_size: (width, height) of a cell in pixels; the largest picture's size when not given. Pictures keep their
            aspect ratio: they are shrunk or enlarged to fit, and centred.
        gap: White pixels around every cell.
        legend: Names and colours to explain beneath the pictures, in as many lines as they need. A sheet narrower than
            the longest name becomes as wide as that.

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
    foot = _draw_legend(legend, columns, width + gap, gap, font)
    size = columns * (width + gap) + gap, len(rows) * (height + gap) + gap + header
    page = Image.new('RGB', (max(size[0], foot.width), size[1] + foot.height), 'white')
    page.paste(foot, (0, size[1]))
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


def _draw_legend(legend: Legend, columns: int, pitch: int, gap: int, font: Any) -> Image.Image:
    """The legend as a picture of its own, of height 0 where it is empty; its columns start where the pictures do."""
    side, line = round(0.8 * font.size), round(1.6 * font.size)
    needed = round(max((font.getlength(name) for name, _ in legend), default=0)) + 2 * side + side // 2
    if needed <= pitch:
        per_line, step = columns * (pitch // needed), pitch / (pitch // needed)
    else:
        per_line = max(1, columns * pitch // needed)
        step = columns * pitch / per_line
    lines = -(-len(legend) // per_line)
    block = Image.new('RGB', (gap + max(needed, columns * pitch), lines * line + gap if lines else 0), 'white')
    draw = ImageDraw.Draw(block)
    for i, (name, colour) in enumerate(legend):
        left, middle = gap + round(i % per_line * step), i // per_line * line + line // 2
        box = left, middle - side // 2, left + side, middle - side // 2 + side
        # The frame keeps colours visible that are close to the paper's white.
        draw.rectangle(box, fill=colour, outline='grey', width=max(1, side // 12))
        draw.text((left + side + side // 2, middle), name, 'black', font, anchor='lm')
    return block


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
