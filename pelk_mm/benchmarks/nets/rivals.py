"""PeLK and the nets that it is timed beside, all of the same widths and depths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...layers import MIXERS, LargeKernelBlock, TokenMixer
from ...models import LargeKernelBackbone, OverLoCK, PeLK, UniConvNet, UniRepLKNet, WBMMNet, WTConvNeXt
from .plain_forms import in_plain_form

#: The paper's kernels: PeLK, and PeLK-101. And PeLK with every other mixer of the package.
PELKS: dict[str, dict[str, Any]] = {
    'pelk': {'kernel_sizes': (51, 49, 47, 13), 'central_size': 5},
    'pelk-101': {'kernel_sizes': (101, 69, 67, 13), 'central_size': 7},
    **{f'mixer={name}': {'mixer': name} for name in MIXERS if name != 'peripheral'},
}
#: What is timed unless nets are named.
RIVALS = ('pelk', 'pelk-101', '7x7', 'stripe', 'stripe nhwc', 'convnext')
#: Other authors' nets at their published sizes, which no ``arch`` changes, and two of them in the form of their
#: authors' torch code: see :mod:`.plain_forms`.
PUBLISHED: dict[str, Callable[..., LargeKernelBackbone]] = {
    'wtconvnext-t': WTConvNeXt,
    'wbmm-t': WBMMNet,
    'overlock-xt': partial(OverLoCK, 'xtiny'),
    'overlock-t': OverLoCK,
    'uniconvnet-t': UniConvNet,
    'unireplknet-t': UniRepLKNet,
}
PLAIN_FORMS = {'wtconvnext-t grouped': 'wtconvnext-t', 'overlock-xt unfolded': 'overlock-xt'}
#: Every name of a net.
NETS = tuple(dict.fromkeys((*RIVALS, *PELKS, *PUBLISHED, *PLAIN_FORMS)))


def resolve_arch(arch: str, channels: Sequence[int] | None = None) -> Any:
    """What PeLK takes as ``arch``: a name, or its depths with other ``channels`` (before the width factor).

    Raises:
        ValueError: Unknown ``arch``, or ``channels`` that are not four positive numbers.
    """
    if arch not in PeLK.arch_settings:
        raise ValueError(f'arch must be one of {", ".join(PeLK.arch_settings)}, but got {arch!r}')
    if channels is None:
        return arch
    if len(channels) != 4 or min(channels) < 1:
        raise ValueError(f'channels must be four positive numbers, but got {tuple(channels)}')
    return {'depths': PeLK.arch_settings[arch]['depths'], 'channels': tuple(channels)}


def build_net(name: str, arch: Any, **kwargs: Any) -> nn.Module:
    """One of :data:`NETS`, as built for training.

    ``pelk``, ``pelk-101`` and ``mixer=...`` are this package's. ``stripe`` is the same net with stripe kernels on stock
    convolutions: SLaK's pair K x 5 + 5 x K on all channels, small kernel merged and without branch norms, on contiguous
    images as in its authors' code; ``stripe nhwc`` the same in channels-last layout. ``7x7`` has stock 7x7 kernels on
    all channels in their place: a ConvNeXt. ``convnext`` is mmpretrain's. Those of :data:`PUBLISHED` and
    :data:`PLAIN_FORMS` have sizes of their own.

    Args:
        name: Of the net.
        arch: As :func:`resolve_arch` returns it.
        **kwargs: Of PeLK, or of the published net.

    Raises:
        ImportError: mmpretrain is missing; ``7x7`` is then the ConvNeXt to compare with.
    """
    if name in PELKS:
        return PeLK(arch, **PELKS[name], **kwargs)
    if name in PUBLISHED:
        return PUBLISHED[name](**kwargs)
    if name in PLAIN_FORMS:
        return in_plain_form(PUBLISHED[PLAIN_FORMS[name]](**kwargs))
    if name == 'convnext':
        try:
            from mmpretrain.models import ConvNeXt
        except ImportError as error:
            raise ImportError(f"mmpretrain cannot be imported ({error}); '7x7' stands in for it") from error
        with torch.device('meta'):
            pelk = PeLK(arch)
        return ConvNeXt(arch={'depths': list(pelk.depths), 'channels': list(pelk.channels)})
    net = PeLK(arch, pos_embed=None, **kwargs)
    if name == '7x7':
        return _with_mixers(net, lambda channels, _: StockConv(channels, [(7, 7)]))
    layout = torch.channels_last if name == 'stripe nhwc' else torch.contiguous_format
    return _with_mixers(net, partial(_stripes, layout))


def weight_bytes(net: nn.Module) -> int:
    """Memory of parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))


class StockConv(TokenMixer):
    """Sum of stock depthwise convolutions over all channels: a rival, as its authors would deploy it."""

    def __init__(
        self,
        channels: int,
        kernels: Sequence[tuple[int, int]],
        layout: torch.memory_format = torch.preserve_format,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, k, padding=(k[0] // 2, k[1] // 2), groups=channels, bias=i == 0)
            for i, k in enumerate(kernels)
        )

    def forward(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if self.layout is not torch.preserve_format:
            x = x.contiguous(memory_format=self.layout)
        out = self.convs[0](x)
        for conv in list(self.convs)[1:]:
            out = out + conv(x)
        return out


def _stripes(layout: torch.memory_format, channels: int, kernel_size: int) -> StockConv:
    return StockConv(channels, [(kernel_size, 5), (5, kernel_size)], layout)


def _with_mixers(net: LargeKernelBackbone, mixer: Callable[[int, int], TokenMixer]) -> LargeKernelBackbone:
    """Replace every mixer by ``mixer(channels, kernel_size)``."""
    for block in net.modules():
        if isinstance(block, LargeKernelBlock):
            block.mixer = mixer(block.mixer.channels, block.mixer.grid.kernel_size)  # type: ignore[arg-type,union-attr]
    return net
