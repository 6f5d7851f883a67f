"""Large-kernel backbones for OpenMMLab: PeLK and its peripheral convolution.

Importing registers everything, in the scope ``pelk_mm`` and in mmengine's root; it needs torch and mmengine alone.
"""

from .moved import keep_old_paths
from .version import __version__, require_mmengine, require_torch, warn_untested_versions

require_torch()
require_mmengine()
warn_untested_versions()
keep_old_paths()

# what is missing or untested is named before it may fail
from . import engine, layers, models, ops  # noqa: E402
from .hub.loaders import register_loaders  # noqa: E402
from .hub.model_index import register_model_index  # noqa: E402
from .hub.pretrained import from_pretrained  # noqa: E402

register_loaders()

DynamicSparsityHook = engine.DynamicSparsityHook

__all__ = [
    'DynamicSparsityHook',
    '__version__',
    'engine',
    'from_pretrained',
    'layers',
    'models',
    'ops',
    'register_model_index',
]
