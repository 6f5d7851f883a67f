"""Whether a module computes what its class says: what may take its weights instead of calling it has to ask."""

from __future__ import annotations

from torch import nn

from ..utils.compat import has_global_hooks

_HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')


def is_untouched(module: nn.Module) -> bool:
    """Whether nothing but its class decides what a call of ``module`` does: no hook, patch or compiled form of it."""
    return not (
        any(getattr(module, name) for name in _HOOKS)
        or has_global_hooks()
        or 'forward' in vars(module)
        or module._compiled_call_impl is not None
    )


def is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether ``module`` is exactly of one of ``kinds``, no subclass, wrapper or parametrised form, and untouched."""
    return type(module) in kinds and is_untouched(module)
