"""The ``pelk_mm`` scope, child of mmengine's root registries.

``type='pelk_mm.PeLK'`` resolves through the child registries, which import their locations on first use: a config needs
nothing else. The same classes also stand in mmengine's root, so that ``custom_imports=dict(imports=['pelk_mm'])`` with
``type='PeLK'`` works in any existing config, whatever its ``default_scope``.
"""

from collections.abc import Callable
from typing import TypeVar

from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
from mmengine.registry import Registry

MODELS = Registry('model', parent=ROOT_MODELS, scope='pelk_mm', locations=['pelk_mm.models'])
HOOKS = Registry('hook', parent=ROOT_HOOKS, scope='pelk_mm', locations=['pelk_mm.engine'])
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper', parent=ROOT_OPTIM_WRAPPERS, scope='pelk_mm', locations=['pelk_mm.engine']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=ROOT_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='pelk_mm',
    locations=['pelk_mm.engine'],
)

T = TypeVar('T', bound=type)


def register(registry: Registry) -> Callable[[T], T]:
    """Class decorator: register in a ``pelk_mm`` registry and in its root parent.

    A class may replace itself (module reload in notebooks), never another package's.

    Raises:
        KeyError: The root holds another class of that name.
    """

    def decorate(cls: T) -> T:
        for target in (registry, registry.parent):
            known = target.module_dict.get(cls.__name__)
            itself = known is not None and (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
            target.register_module(module=cls, force=itself)
        return cls

    return decorate
