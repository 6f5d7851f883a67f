"""Every check of the data sets of a run, before its first iteration: a mistake costs seconds and overwrites nothing.

Each check looks at a sample or at what the data set has read anyway, so that they take seconds on COCO and ImageNet.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from ..engine.runner.runner import SafeRunner
from ..utils.errors import ConfigError, DataError, naming
from ..utils.processes import is_first_process
from .classes import check_same_classes
from .coco import check_categories
from .images import check_images
from .instances import check_instances
from .labels import check_labels
from .unbuilt import explain
from .walk import leaves

#: What is checked of every data set, in this order, given the data set without wrappers, the model and the loader's
#: name. A check raises DataError. One of a new kind is a file of this package and an entry here.
CHECKS: tuple[Callable[[Any, nn.Module, str], None], ...] = (
    lambda dataset, _, loader: check_categories(dataset, loader),
    lambda dataset, _, loader: check_instances(dataset, loader),
    check_labels,
    lambda dataset, _, loader: check_images(dataset, loader),
)


def check_loaders(runner: SafeRunner, names: Sequence[str]) -> None:
    """Build dataloaders of a runner; compare their annotations with the images, the model and each other.

    The first process looks, for all of them; every process builds.

    Args:
        runner: The runner, not yet started.
        names: Of 'train_dataloader', 'val_dataloader' and 'test_dataloader'.

    Raises:
        ConfigError: If a data set cannot be built.
        DataError: If one is empty, or as one of :data:`CHECKS` or ``check_same_classes`` says.
    """
    datasets = [(name, _build(runner, name)) for name in names]
    if not is_first_process(runner.launcher):
        return
    for name, dataset in datasets:
        for check in CHECKS:
            for leaf in leaves(dataset):
                check(leaf, runner.model, name)
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
