"""Nets of timm's registry for the tests: every name on the meta device, and a small net of each family."""

from functools import cache

import torch

from pelk_mm.hub import timm as hub

NAMES = list(hub.NAMES)
#: One name of each family: with SMALL, names of a family build the same net.
FAMILIES = [next(name for name in NAMES if name.startswith(f'{family.prefix}_')) for family in hub.FAMILIES]
CHANNELS = [16, 24, 32, 40]


def own_arguments(name):
    """Class and arguments of the small net of a name. Layer scale of 1 lets every parameter reach the output."""
    backbone, arguments = hub.NAMES[name]
    arguments = {**arguments, 'arch': {'depths': (1, 1, 2, 1), 'channels': CHANNELS}, 'layer_scale_init_value': 1.0}
    if backbone.__name__ in ('PeLK', 'SLaK'):
        arguments['width_factor'] = 1.0
    if backbone.__name__ == 'UniConvNet':
        arguments['group_width'] = 8
    return backbone, arguments


def small(name, **kwargs):
    """A net of four stages with few channels and 5 classes, the same at every call."""
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, **{**own_arguments(name)[1], 'num_classes': 5, **kwargs})


@cache
def on_meta(name):
    """The net as it is registered, without memory. Not to be changed."""
    import timm

    return timm.create_model(name, device='meta').eval()


def images(batch=2, size=64, channels=3):
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(size))
