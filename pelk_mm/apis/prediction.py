"""What a prediction is: the image, the files written for it, and what was found, in words."""

from dataclasses import dataclass
from pathlib import Path

from ..utils.pictures import Legend


@dataclass(frozen=True)
class Found:
    """What a model found in one image, as people read it; the files hold all of it.

    Attributes:
        summary: One line.
        legend: The classes in the overlay and their colours (segmentors only).
        top: The best classes and their scores, best first (classifiers only).
    """

    summary: str = ''
    legend: Legend = ()
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What became of one image.

    Attributes:
        image: The input.
        outputs: The files written for it; empty if it was skipped.
        error: Why it was skipped.
        found: What the model found in it.
        size: (width, height) in pixels, turned as its EXIF entry says; (0, 0) if it was skipped.
    """

    image: Path
    outputs: tuple[Path, ...] = ()
    error: str | None = None
    found: Found = Found()
    size: tuple[int, int] = (0, 0)

    @property
    def summary(self) -> str:
        """One line about what was found."""
        return self.found.summary
