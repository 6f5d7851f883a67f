"""A net with the weights it starts training from, as a checkpoint: the baseline that a score is held against."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ...utils.files import save_atomic


def save_untrained(cfg: Config, path: str | Path, seed: int = 0) -> None:
    """Build the model of a config, initialise it as training would and save it.

    An ``init_cfg`` of type ``Pretrained`` is honoured: "untrained" then means as it is before the fine-tune.

    Args:
        cfg: Has ``model`` and ``default_scope``.
        path: The checkpoint to write; folders are made.
        seed: Of the initialisation. The generators of the caller are left as they were.

    Raises:
        SaveError: The file cannot be written.
    """
    with torch.random.fork_rng(), DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
    save_atomic(path, {'state_dict': model.state_dict(), 'meta': {'seed': seed}})
