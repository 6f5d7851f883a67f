"""The convolution that is timed: its tensors on the device, and what is right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...ops import SharingGrid, peripheral_conv2d
from ..rotation import Rotation

#: What the float64 reference may cost in multiply-adds a pass, and how many channels it shows at least and at most.
REFERENCE_COST = 2e8
SEEN_CHANNELS = 2, 8


@dataclass(frozen=True)
class Case:
    """A convolution to time.

    ``images`` and ``nhwc`` are copies of one batch (N, C, H, W), handed out in turn, ``cotangents`` and
    ``nhwc_cotangents`` those of what flows back into the output. The gate looks at the first and the last image and at
    ``seen`` channels, the first and the last among them: enough to find a wrong number, and float64 is slow.
    """

    grid: SharingGrid
    weight: Tensor
    kernel: Tensor
    small: Tensor
    images: Rotation
    nhwc: Rotation
    cotangents: Rotation
    nhwc_cotangents: Rotation
    seen: list[int]
    bar: float
    backward: bool

    def sample(self, planes: Tensor) -> Tensor:
        """What the gate sees of (N, C, H, W)."""
        return planes[sorted({0, len(planes) - 1})][:, self.seen]


def draw_case(
    shape: tuple[int, int, int, int],
    grid: SharingGrid,
    dtype: torch.dtype,
    device: torch.device,
    cache: int,
    bar: float,
    backward: bool,
) -> Case:
    """A case for images of ``shape`` (N, C, H, W); its numbers come from a generator of its own.

    Args:
        shape: Of the images.
        grid: Of the kernel.
        dtype, device: Of all tensors.
        cache: Bytes that the copies of the images have to exceed; 0 for one copy.
        bar: What a back-end may err by.
        backward: Whether gradients are taken.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    image, cotangent, channels = draw(*shape), draw(*shape), shape[1]
    weight = draw(channels, grid.num_segments, grid.num_segments)
    return Case(
        grid=grid,
        weight=weight.requires_grad_(backward),
        kernel=grid.expand(weight).detach().requires_grad_(backward),
        small=draw(channels, 1, 7, 7).requires_grad_(backward),
        images=Rotation(image, cache, requires_grad=backward),
        nhwc=Rotation(image, cache, channels_last=True, requires_grad=backward),
        cotangents=Rotation(cotangent, cache if backward else 0),
        nhwc_cotangents=Rotation(cotangent, cache if backward else 0, channels_last=True),
        seen=_seen_channels(shape, grid.kernel_size),
        bar=bar,
        backward=backward,
    )


def reference(case: Case) -> tuple[Tensor, ...]:
    """In float64, of the sample: the output and with ``backward`` the gradients of image and weight."""
    image = case.sample(case.images.next().detach()).double().requires_grad_(case.backward)
    weight = case.weight.detach()[case.seen].double().requires_grad_(case.backward)
    out = peripheral_conv2d(image, weight, case.grid, backend='dense')
    if not case.backward:
        return (out,)
    cotangent = case.sample(case.cotangents.next()).double()
    return (out.detach(), *torch.autograd.grad(out, (image, weight), cotangent))


def _seen_channels(shape: tuple[int, int, int, int], kernel_size: int) -> list[int]:
    """Channels at even distances, the first and the last among them."""
    taps = math.prod(min(kernel_size, 2 * side - 1) for side in shape[2:])
    affordable = int(REFERENCE_COST / (2 * math.prod(shape[2:]) * taps))
    count = max(SEEN_CHANNELS[0], min(SEEN_CHANNELS[1], affordable))
    return sorted({i * (shape[1] - 1) // (count - 1) for i in range(count)})
