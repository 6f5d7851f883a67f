"""Made-up data sets in the layouts that the toolboxes read."""

from .ade_layout import ToyDataset, write_toy_dataset
from .toy_scenes import TOY_CLASSES, make_scene

__all__ = ['TOY_CLASSES', 'ToyDataset', 'make_scene', 'write_toy_dataset']
