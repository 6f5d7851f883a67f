"""Models without the memory and the initialisation of their weights: parameters on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

Model = TypeVar('Model', bound=nn.Module)
# What initialisations are made of.
_FILLING = {Tensor.uniform_, Tensor.normal_, Tensor.zero_, Tensor.fill_}
_FILLING |= {Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_}


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
            with _NoFilling():
                model = build()
        except RuntimeError:  # what torch raises where values are read of a tensor that has none
            handle.remove()
            model = build()
        finally:
            handle.remove()
    return model.to('meta')


class _NoFilling(TorchFunctionMode):
    """Leaves out the filling of tensors that have no memory, which is half of the time that building takes."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _FILLING and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def _to_meta(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
    if parameter.is_meta:  # also keeps weights tied that are registered twice
        return parameter
    return nn.Parameter(parameter.to('meta'), requires_grad=parameter.requires_grad)
