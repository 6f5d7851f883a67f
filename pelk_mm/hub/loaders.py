"""``hf://`` and safetensors in mmengine: ``init_cfg=dict(type='Pretrained', checkpoint='hf://OWNER/REPO/FILE')``."""

from __future__ import annotations

from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from ..checkpoints.reading import MapLocation, read_checkpoint
from .fetch import HUB, fetch

#: mmengine looks for the first pattern that fits; those of its own with an address stand before this one.
SAFETENSORS = r'(?!\w+://).*\.safetensors$'


# mmengine cuts `load_from_` off these names for its log.
def load_from_hub(filename: str, map_location: MapLocation = None) -> dict[str, Any]:
    """Read a checkpoint of a hub, as :func:`pelk_mm.hub.fetch.fetch` names it, without running code from it.

    Raises:
        CheckpointError, ConfigError: It cannot be had or read.
    """
    return read_checkpoint(fetch(filename), map_location)


def load_from_safetensors(filename: str, map_location: MapLocation = None) -> dict[str, Any]:
    """Read a local file of safetensors.

    Raises:
        CheckpointError: It is missing or damaged, or the package safetensors is.
    """
    return read_checkpoint(filename, map_location)


def register_loaders() -> None:
    """Give mmengine both ways to load."""
    CheckpointLoader.register_scheme(HUB, load_from_hub, force=True)
    CheckpointLoader.register_scheme(SAFETENSORS, load_from_safetensors, force=True)
