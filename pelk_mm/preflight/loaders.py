"""Every check of the data sets of a run, before its first iteration: a mistake costs seconds and overwrites nothing.

Each check looks at a sample or at what the data set has read anyway, so that they take seconds on COCO and ImageNet.
"""

from collections.abc import Sequence
from typing import Any

from ..engine.launch import is_first_process
from ..engine.runner.runner import SafeRunner
from ..utils.errors import ConfigError, DataError, naming
from .classes import check_same_classes
from .coco import check_categories
from .images import check_images
from .labels import check_labels
from .unbuilt import explain
from .walk import leaves


def check_loaders(runner: SafeRunner, names: Sequence[str]) -> None:
    """Build dataloaders of a runner; compare their annotations with the images, the model and each other.

    The first process looks, for all of them; every process builds.

    Args:
        runner: The runner, not yet started.
        names: Of 'train_dataloader', 'val_dataloader' and 'test_dataloader'.

    Raises:
        ConfigError: If a data set cannot be built.
        DataError: If one is empty, or as the checks of this package say.
    """
    datasets = [(name, _build(runner, name)) for name in names]
    if not is_first_process():
        return
    for name, dataset in datasets:
        for leaf in leaves(dataset):
            check_categories(leaf, name)
        check_labels(dataset, runner.model, name)
        for leaf in leaves(dataset):
            check_images(leaf, name)
    check_same_classes([(name, leaf) for name, dataset in datasets for leaf in leaves(dataset)])


def _build(runner: SafeRunner, name: str) -> Any:
    try:
        with naming(name):
            return getattr(runner, name).dataset
    except (ConfigError, RuntimeError) as error:
        reason = explain(runner.cfg, name, error)
        if reason is None:
            raise
        raise DataError(reason) from error
