"""Parts for mmengine: hooks, the optimizer-wrapper constructor, a runner that loses nothing, and safe loading."""

from typing import Any

from ..checkpoints.reading import read_checkpoint, safe_loading
from ..sparsity.hook import DynamicSparsityHook
from .bfloat16 import BFloat16OptimWrapper
from .layer_decay import LayerDecayOptimWrapperConstructor
from .runner.checkpoint_hook import SafeCheckpointHook
from .runner.runner import SafeRunner
from .switch_to_deploy_hook import SwitchToDeployHook

__all__ = [
    'BFloat16OptimWrapper',
    'DynamicSparsityHook',
    'LayerDecayOptimWrapperConstructor',
    'SafeCheckpointHook',
    'SafeRunner',
    'SwitchToDeployHook',
    'read_checkpoint',
    'register_model_index',
    'safe_loading',
]


def __getattr__(name: str) -> Any:
    """``register_model_index``, a public name of this room, stands in one above it."""
    if name == 'register_model_index':
        from ..hub.model_index import register_model_index

        return register_model_index
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
