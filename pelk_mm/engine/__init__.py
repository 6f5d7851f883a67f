"""Parts for mmengine: hooks, the optimizer-wrapper constructor, a runner that loses nothing, and safe loading."""

from ..checkpoints.reading import read_checkpoint, safe_loading
from ..sparsity.hook import DynamicSparsityHook
from .bfloat16 import BFloat16OptimWrapper
from .layer_decay import LayerDecayOptimWrapperConstructor
from .model_index import register_model_index
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
