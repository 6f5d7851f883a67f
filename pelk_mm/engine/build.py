"""Building runners from a config, with errors that name the part."""

from collections.abc import Sequence

from mmengine.config import Config

from ..utils.errors import naming
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
