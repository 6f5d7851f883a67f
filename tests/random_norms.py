"""Parameters that a merge cannot get right by luck."""

import torch
from torch import nn


def randomise(module, seed=1):
    """Random BatchNorms, response norms and layer scales in ``module``, which is returned in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2.0, generator=generator)
            norm.weight.data.uniform_(0.5, 2.0, generator=generator)
            norm.bias.data.normal_(generator=generator)
    for name, parameter in module.named_parameters():
        if name.rpartition('.')[2] in ('gamma', 'beta'):
            parameter.data.normal_(generator=generator)
    return module.eval()
