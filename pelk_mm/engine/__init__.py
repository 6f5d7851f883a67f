"""Parts for mmengine: hooks, the optimizer-wrapper constructor, a runner that loses nothing, and safe loading."""

from .bfloat16 import BFloat16OptimWrapper
from .checkpoint import read_checkpoint, safe_loading
from .checkpoint_hook import SafeCheckpointHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .runner import SafeRunner
from .switch_to_deploy_hook import SwitchToDeployHook

__all__ = [
    'BFloat16OptimWrapper',
    'LayerDecayOptimWrapperConstructor',
    'SafeCheckpointHook',
    'SafeRunner',
    'SwitchToDeployHook',
    'read_checkpoint',
    'safe_loading',
]
