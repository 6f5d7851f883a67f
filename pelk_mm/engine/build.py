"""Building runners and their parts from a config, with errors that name the part."""

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from .errors import ConfigError, DataError, naming
from .label_check import check_labels
from .launch import is_first_process
from .preflight import describe_data
from .runner import SafeRunner


def build_runner(cfg: Config, trust_checkpoint: bool, notes: Sequence[str] = ()) -> SafeRunner:
    """Build the runner with its model and hooks; ``notes`` go to its log.

    Raises:
        ConfigError: If a part of the config cannot be built.
    """
    with naming(f'the model and hooks of {cfg.filename}'):
        runner = SafeRunner.from_cfg(cfg)
    runner.trust_checkpoint = trust_checkpoint
    for note in notes:
        runner.logger.warning(note)
    return runner


def check_loader(runner: SafeRunner, name: str) -> None:
    """Build one dataloader of a runner and compare its labels with the model.

    Args:
        runner: The runner, not yet started.
        name: 'train_dataloader', 'val_dataloader' or 'test_dataloader'.

    Raises:
        ConfigError: If it cannot be built.
        DataError: If it is empty, and as ``check_labels``.
    """
    try:
        with naming(name):
            dataset: Any = getattr(runner, name).dataset
    except ConfigError as error:
        # mmengine's data set stacks its entries, and names no folder when there is none to stack.
        if 'need at least one array to concatenate' not in str(error):
            raise
        where = describe_data(runner.cfg, name)
        raise DataError(f'{name} is empty: no image with the suffix of its data set in {where}') from error
    if is_first_process():
        check_labels(dataset, runner.model, name)
