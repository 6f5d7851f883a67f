"""Made-up scenes of textured shapes, drawn from a seed, for trying out semantic segmentation without a download.

Colour says nothing: every surface gets a random one. What tells the classes apart is

- the outline: ``ball`` (disc), ``boat`` (triangle), ``plate`` (ring), ``light`` (cross), the rest squares;
- the texture: ``box`` (speckled), ``flag`` (stripes), ``windowpane`` (checks), ``ball`` (darker to the edge);
- the place: ``sky`` and ``sea`` look alike, one lies above the horizon and one below.

Labels are ADE20K's: 1 to 150 for its classes, 0 for everything else (here: patches of noise).
"""

import numpy as np

TOY_CLASSES = {
    'sky': 3,
    'sea': 27,
    'ball': 120,
    'box': 42,
    'boat': 77,
    'plate': 143,
    'light': 83,
    'flag': 150,
    'windowpane': 9,
}
OBJECTS = tuple(name for name in TOY_CLASSES if name not in ('sky', 'sea'))
MIN_SIZE = 64


def make_scene(rng: np.random.Generator, size: int, required: str = OBJECTS[0]) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene: sky, sea, three to six objects that do not overlap, and in half the scenes a patch of noise.

    Args:
        rng: The only source of randomness.
        size: Height and width in pixels, at least 64.
        required: An object class that is in the scene for certain; the others are drawn at random.

    Returns:
        The image, uint8 RGB of shape (size, size, 3), and the labels, uint8 of shape (size, size).

    Raises:
        ValueError: ``size`` is below 64 or ``required`` is not an object class.
    """
    if size < MIN_SIZE:
        raise ValueError(f'size must be at least {MIN_SIZE} pixels, or the patterns are too fine to see; got {size}')
    if required not in OBJECTS:
        raise ValueError(f'required must be one of {OBJECTS}, got {required!r}')
    y, x = np.mgrid[:size, :size].astype(np.float64)
    horizon = size * rng.uniform(0.35, 0.65) + size * rng.uniform(-0.15, 0.15) * (x / size - 0.5)
    above = y < horizon
    backgrounds = [_random_colour(rng, []) for _ in range(2)]
    image = np.where(above[..., None], *(colour + _clouds(rng, size) for colour in backgrounds))
    labels = np.where(above, TOY_CLASSES['sky'], TOY_CLASSES['sea']).astype(np.uint8)

    names = [required, *rng.choice(OBJECTS, rng.integers(2, 6))]
    has_patch = rng.random() < 0.5
    for name, cx, cy, radius in _place(rng, size, [*names, *(['patch'] if has_patch else [])]):
        angle = rng.uniform(0, 2 * np.pi)
        u = ((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)) / radius
        v = ((y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)) / radius
        inside = _outline(name, u, v)
        image[inside] = _surface(rng, name, u, v, backgrounds)[inside]
        labels[inside] = TOY_CLASSES.get(name, 0)
    image += rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).round().astype(np.uint8), labels


def _place(rng: np.random.Generator, size: int, names: list[str]) -> list[tuple[str, float, float, float]]:
    """Name, centre and radius of what finds a free place; the first name always does."""
    placed: list[tuple[str, float, float, float]] = []
    for name in names:
        for _ in range(30):
            radius = size * rng.uniform(0.13, 0.21)
            cx, cy = rng.uniform(radius, size - radius, 2)
            if all(np.hypot(cx - px, cy - py) > radius + pr for _, px, py, pr in placed):
                placed.append((name, cx, cy, radius))
                break
    return placed


def _outline(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Which points lie inside the shape of circumradius 1 around the origin; a boolean array like ``u`` and ``v``."""
    distance = np.hypot(u, v)
    if name in ('ball', 'patch'):
        return distance <= 1
    if name == 'plate':
        return (distance <= 1) & (distance >= 0.55)
    if name == 'boat':
        corners = np.pi * np.array([1 / 3, 1, 5 / 3])
        return np.all([u * np.cos(a) + v * np.sin(a) <= 0.5 for a in corners], axis=0)
    if name == 'light':
        return ((abs(u) <= 0.27) & (abs(v) <= 0.95)) | ((abs(v) <= 0.27) & (abs(u) <= 0.95))
    return np.maximum(abs(u), abs(v)) <= np.sqrt(0.5)


def _surface(
    rng: np.random.Generator, name: str, u: np.ndarray, v: np.ndarray, backgrounds: list[np.ndarray]
) -> np.ndarray:
    """The colours of a shape on the whole plane, float of shape (H, W, 3)."""
    if name == 'patch':
        return rng.uniform(0, 255, (*u.shape, 3))
    colour = _random_colour(rng, backgrounds)
    if name in ('flag', 'windowpane'):
        other = _random_colour(rng, [colour, *backgrounds])
        bands = np.floor(u / 0.4) + (np.floor(v / 0.4) if name == 'windowpane' else 0)
        return np.where((bands % 2 == 0)[..., None], colour, other)
    if name == 'box':
        return colour + rng.normal(0, 40, u.shape)[..., None]
    if name == 'ball':
        return colour * (1.5 - 0.75 * np.hypot(u, v))[..., None]
    return np.broadcast_to(colour, (*u.shape, 3))


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth noise of shape (size, size, 1), about +-20: a coarse random grid, interpolated linearly."""
    coarse = rng.normal(0, 12, (7, 7))
    at = np.linspace(0, 6, size)
    rows = np.stack([np.interp(at, np.arange(7), row) for row in coarse])
    return np.stack([np.interp(at, np.arange(7), column) for column in rows.T], axis=1)[..., None]


def _random_colour(rng: np.random.Generator, apart_from: list[np.ndarray]) -> np.ndarray:
    """A colour that differs visibly from the given ones: RGB as float64 of shape (3,)."""
    colour = rng.uniform(30, 225, 3)
    while any(np.abs(colour - other).max() < 60 for other in apart_from):
        colour = rng.uniform(30, 225, 3)
    return colour
