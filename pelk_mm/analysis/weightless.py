"""Models without the memory and the initialisation of their weights: parameters on the meta device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

Model = TypeVar('Model', bound=nn.Module)


def build_weightless(build: Callable[[], Model]) -> Model:
    """Build a model whose parameters go to the meta device as they are created.

    Everything else that a constructor computes is computed as always: constructors may read such tensors, which a
    model built wholly on the meta device could not. The caller's random state is left as it was.

    Args:
        build: Makes the model; it is called a second time, with real weights, if it needs the values of its own.

    Returns:
        The model, all of it on the meta device.

    Raises:
        Whatever ``build`` raises.
    """
    with torch.random.fork_rng(devices=[]):
        handle = register_module_parameter_registration_hook(_to_meta)  # type: ignore[arg-type]  # it may return
        try:
            model = build()
        except RuntimeError:  # what torch raises where values are read of a tensor that has none
            handle.remove()
            model = build()
        finally:
            handle.remove()
    return model.to('meta')


def _to_meta(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
    if parameter.is_meta:  # also keeps weights tied that are registered twice
        return parameter
    return nn.Parameter(parameter.to('meta'), requires_grad=parameter.requires_grad)
