"""The deployed form of a model: branches merged, for testing and serving only."""

from torch import nn

DEPLOY_KEY = 'deploy'


def switch_to_deploy(model: nn.Module) -> list[str]:
    """Call ``switch_to_deploy()`` on the outermost modules that have it.

    What lies inside such a module is its own affair. Wrappers (distributed, test-time augmentation) are looked through.

    Args:
        model: Any module; changed in place.

    Returns:
        The names of the modules switched; empty where there is none.
    """
    switched: list[str] = []
    pending = [('', model)]
    while pending:
        name, module = pending.pop(0)
        if callable(getattr(module, 'switch_to_deploy', None)):
            module.switch_to_deploy()  # type: ignore[operator]
            switched.append(name or type(module).__name__)
        else:
            pending += [(f'{name}.{child_name}'.lstrip('.'), child) for child_name, child in module.named_children()]
    return switched


def is_deployed(checkpoint: dict) -> bool:
    """Tell whether a checkpoint was written by ``reparameterize_model.py``."""
    meta = checkpoint.get('meta')
    return isinstance(meta, dict) and meta.get(DEPLOY_KEY) is True


def can_be_deployed(model: nn.Module) -> bool:
    """Tell whether any module of a model has ``switch_to_deploy()``."""
    return any(callable(getattr(module, 'switch_to_deploy', None)) for module in model.modules())
