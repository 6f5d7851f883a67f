"""Pictures of a layer's depthwise kernel: the shared weights, the kernel they expand to, and the embedding h."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from ...layers import PeripheralConv2d, TokenMixer
from ...layers.mixers.pos_embed import PosEmbedConv
from ...models import LargeKernelBackbone
from .charts import new_figure

#: Names in the message that a layer is not there: all of PeLK-B's 36.
MAX_NAMES = 40


@dataclass(frozen=True)
class LayerKernel:
    """The weights of one layer, on the CPU in float32.

    Args:
        name: Of the layer in its backbone.
        kernel: (g, kh, kw), what each channel is convolved with.
        w_theta: (g, k', k'), the shared weights; None where nothing is shared.
        sizes: Lengths of the k' segments an axis; None where nothing is shared.
        pos_embed: h of the layer's stage, (g, K, K); None where the layer reads none.
        form: What the weights are: 'merged' (deployed), 'before BatchNorm' (as trained), 'plain'.
    """

    name: str
    kernel: Tensor
    w_theta: Tensor | None
    sizes: tuple[int, ...] | None
    pos_embed: Tensor | None
    form: str

    def arrays(self) -> dict[str, np.ndarray]:
        """What there is of ``w_theta``, ``kernel``, ``pos_embed`` and ``segment_sizes``, to store or to replot."""
        arrays = {'w_theta': self.w_theta, 'kernel': self.kernel, 'pos_embed': self.pos_embed}
        found = {name: tensor.numpy() for name, tensor in arrays.items() if tensor is not None}
        return found if self.sizes is None else {**found, 'segment_sizes': np.array(self.sizes)}


def kernel_layers(backbone: nn.Module) -> dict[str, nn.Conv2d | TokenMixer]:
    """The layers of a backbone with a depthwise kernel larger than 1 x 1, by name."""
    found: dict[str, nn.Conv2d | TokenMixer] = {}
    for name, module in backbone.named_modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        if isinstance(module, TokenMixer) or (depthwise and max(module.kernel_size) > 1):  # type: ignore[arg-type]
            found[name] = module
    return found


@torch.no_grad()
def layer_kernel(backbone: nn.Module, name: str) -> LayerKernel:
    """Read the kernel of one layer.

    Kernels of a layer that are no squares are laid in one, over each other where they share channels: the stripes, and
    the shiftwise branches. An inception layer's channels are those of its square kernels, its wide and its tall ones.

    Args:
        backbone: Any backbone.
        name: Of the layer, such as ``stages.0.0.mixer``; a leading ``backbone.``, or the name of one of the layer's
            weights, is understood, as is a block that holds no second such layer.

    Raises:
        ValueError: There is no such layer, or it has no depthwise kernel; the message lists those that have one.
    """
    layers = kernel_layers(backbone)
    found = _resolve(backbone, layers, name.removeprefix('backbone.'))
    layer = layers[found]
    form = 'plain'
    if isinstance(layer, TokenMixer):
        try:
            kernel = layer.dense_kernel()
        except NotImplementedError as error:
            raise ValueError(
                f'layer {found} is a {type(layer).__name__}, whose kernel this version cannot read'
            ) from error
        if layer.merges_norms:
            form = 'merged' if layer.deployed else 'before BatchNorm'
    else:
        kernel = layer.weight.flatten(0, 1)
    w_theta, sizes, pos_embed = None, None, None
    if isinstance(layer, PeripheralConv2d) and layer.grid.num_segments < layer.kernel_size:
        w_theta, sizes = layer.w_theta, layer.grid.sizes
    if isinstance(layer, PosEmbedConv) and layer.pos_embed is not None and isinstance(backbone, LargeKernelBackbone):
        (pos_embed,) = backbone.stage_extras(int(found.split('.')[1]))
    return LayerKernel(found, _plain(kernel), _optional(w_theta), sizes, _optional(pos_embed), form)


def draw_kernel(layer: LayerKernel, channels: Sequence[int] = (), title: str | None = None, cell: int = 360) -> Figure:
    """A row for the mean absolute value over all channels, and one for each channel asked for.

    Columns are w_theta (where weights are shared), the kernel, and h (where there is one).

    Args:
        layer: As :func:`layer_kernel` returns it.
        channels: Indices below g.
        title: Above the pictures; the layer's name, size and form by default.
        cell: Width of a picture in the PNG, in pixels.

    Raises:
        ValueError: A channel is out of range, or named twice.
    """
    count = layer.kernel.shape[0]
    if any(not 0 <= channel < count for channel in channels) or len(set(channels)) < len(channels):
        raise ValueError(f'channels must be different numbers from 0 to {count - 1}, but got {list(channels)}')
    columns = [('kernel', layer.kernel), ('h', layer.pos_embed)]
    if layer.w_theta is not None:
        columns.insert(0, ('w_theta', layer.w_theta))
    columns = [(what, values) for what, values in columns if values is not None]
    figure = new_figure(cell * len(columns), round(0.8 * cell) * (1 + len(channels)) + 40)
    grid = figure.subplots(1 + len(channels), len(columns), squeeze=False)
    for axes_of_row, channel in zip(grid, [None, *channels], strict=True):
        for axes, (what, values) in zip(axes_of_row, columns, strict=True):
            assert values is not None
            picture = values.abs().mean(0) if channel is None else values[channel]
            _show(axes, picture.numpy(), what, channel, count)
    height, width = layer.kernel.shape[1:]
    figure.suptitle(f'{layer.name}: {height} x {width}, {layer.form}' if title is None else title)
    return figure


def _show(axes: Axes, picture: np.ndarray, what: str, channel: int | None, count: int) -> None:
    rows, columns = picture.shape
    extent = (-columns / 2, columns / 2, rows / 2, -rows / 2)
    if channel is None:
        image = axes.imshow(picture, cmap='viridis', extent=extent)
        label, of = f'mean |{what}|', f'mean of {count} channels'
    else:
        limit = float(np.abs(picture).max()) or 1.0
        image = axes.imshow(picture, cmap='coolwarm', vmin=-limit, vmax=limit, extent=extent)
        label, of = what, f'channel {channel}'
    axes.figure.colorbar(image, ax=axes, label=label)
    unit = 'segments from the centre' if what == 'w_theta' else 'pixels from the centre'
    axes.set_xlabel(unit)
    axes.set_ylabel(unit)
    axes.set_title(f'{what}, {rows} x {columns}\n{of}', fontsize='medium')


def _resolve(backbone: nn.Module, layers: dict[str, nn.Conv2d | TokenMixer], name: str) -> str:
    modules: dict[str, Any] = dict(backbone.named_modules())
    # A name of the state dict ends in the weight's own name, which is no module.
    owner = name if name in modules else name.rpartition('.')[0]
    if owner in layers:
        return owner
    inside = [layer for layer in layers if name and layer.startswith(f'{name}.')]
    if len(inside) == 1:
        return inside[0]
    offered = inside or list(layers)
    if not offered:
        raise ValueError(f'{type(backbone).__name__} has no layer with a depthwise kernel')
    shown = ', '.join(offered[:MAX_NAMES]) + (
        f' and {len(offered) - MAX_NAMES} more' if len(offered) > MAX_NAMES else ''
    )
    if inside:
        reason = f'holds {len(inside)} layers with a depthwise kernel'
    elif name in modules:
        reason = f'is a {type(modules[name]).__name__} without a depthwise kernel'
    else:
        reason = 'is not in the backbone'
    raise ValueError(f'layer {name!r} {reason}; choose one of: {shown}')


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu()


def _optional(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else _plain(tensor)
