"""ConvNeXt's weights as a PeLK's: the same function, from which the large kernels can be trained."""

from typing import cast

import torch
from torch import Tensor, nn

from ..layers.mixers.peripheral import PeripheralConv2d
from ..utils.errors import ConfigError

CONVNEXT_KERNEL = 7


@torch.no_grad()
def silence_all_but_the_kernel(backbone: nn.Module) -> None:
    """Set a fresh PeLK so that in evaluation each of its mixers is its large kernel alone, plus ``norm.bias``.

    h becomes zero, the small branch's BatchNorm too, and the large branch's the identity up to its bias. The small
    kernel keeps its first values: its BatchNorm's gradient depends on them.

    Raises:
        ConfigError: Some channels pass unconvolved, or the grid has no 7 x 7 unit cells in its centre.
    """
    for mixer in backbone.modules():
        if not isinstance(mixer, PeripheralConv2d):
            continue
        if mixer.conv_channels < mixer.channels:
            raise ConfigError(
                f'ConvNeXt convolves every channel: conv_ratio must be 1.0, but {mixer.conv_channels} of '
                f'{mixer.channels} channels are convolved'
            )
        if mixer.kernel_size < CONVNEXT_KERNEL or mixer.grid.refine_centre(CONVNEXT_KERNEL) != mixer.grid:
            raise ConfigError(
                'the kernels must have 7 x 7 unit cells in their centre for the kernels of ConvNeXt, as central_size=7 '
                f'gives, but the grid is {mixer.grid.sizes}'
            )
        norm = mixer.norm
        norm.reset_running_stats()
        norm.weight.copy_(torch.sqrt(cast(Tensor, norm.running_var) + norm.eps))
        if mixer.small_kernel is not None:
            nn.init.zeros_(mixer.small_norm.weight)
            nn.init.zeros_(mixer.small_norm.bias)
    for embedding in getattr(backbone, 'pos_embeds', ()):
        nn.init.zeros_(embedding)


def in_the_centre(value: Tensor, shape: torch.Size) -> Tensor:
    """A depthwise 7 x 7 kernel (C, 1, 7, 7) as shared weights (C, k', k') whose 7 x 7 in the middle are unit cells."""
    margin = (shape[-1] - CONVNEXT_KERNEL) // 2
    if value.shape[1:] != (1, CONVNEXT_KERNEL, CONVNEXT_KERNEL) or margin < 0:
        return value
    return nn.functional.pad(value.squeeze(1), (margin,) * 4)
