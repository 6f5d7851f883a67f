"""Another backbone in place of the one of a config, with channels and strides as the original has them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

#: Where in a config a dict stands: keys of dicts and places in lists.
Place = tuple[str | int, ...]
PELK, CONVNEXT = 'pelk_mm.PeLK', 'mmpretrain.ConvNeXt'
#: Arguments of the original that go over to a backbone that has them.
_KEPT: dict[str, tuple[str, ...]] = {PELK: ('in_channels', 'frozen_stages', 'norm_eval', 'with_cp')}
_KEPT[CONVNEXT] = ('in_channels', 'frozen_stages', 'with_cp')


@dataclass(frozen=True)
class Fit:
    """A net of four stages that has a backbone's outputs.

    Attributes:
        channels: Of each stage.
        out_indices: Stages that are put out.
        strides: Of stem and downsampling.
        pooled: Outputs are vectors (N, C) instead of maps.
    """

    channels: tuple[int, ...]
    out_indices: tuple[int, ...]
    strides: tuple[int, ...] = (4, 2, 2, 2)
    pooled: bool = False


def find_backbones(model: Any) -> list[Place]:
    """Where the backbones of a model's config stand, the main one first.

    A backbone is a dict whose key is ``backbone``, or whose class is defined in a package called ``backbones``. Where
    one holds another, as BiSeNetV1 does, the inner one counts.
    """
    places = _backbones_in(model, ())
    return sorted(places, key=lambda place: (place[-1] != 'backbone', len(place)))


def at(model: Any, place: Place) -> Any:
    """What stands at a place of a config."""
    for key in place:
        model = model[key]
    return model


def replace_backbones(model: Any, new: Mapping[str, Any]) -> tuple[Any, int]:
    """A copy of a model's config with another main backbone, and the number of backbones that are kept.

    Every backbone of the same dict as the main one is replaced, such as a teacher's; others are kept.
    """
    model = copy.deepcopy(model)
    places = find_backbones(model)
    original = copy.deepcopy(at(model, places[0]))
    kept = 0
    for place in places:
        if at(model, place) == original:
            at(model, place[:-1])[place[-1]] = dict(new)
        else:
            kept += 1
    return model, kept


def read_outputs(backbone: Mapping[str, Any], size: int, image_channels: int) -> list[tuple[int, ...]]:
    """Shapes of what a backbone puts out for one image of ``size`` pixels, without the number of images.

    Raises:
        ValueError: It puts out no tensor of two to four dimensions.
        Whatever building and running it raises.
    """
    built = MODELS.build(dict(backbone))
    built.eval()  # some return nothing
    channels = backbone.get('in_channels', image_channels)
    with torch.no_grad():
        tensors = _tensors(built(torch.rand(1, channels, size, size)))
    if not tensors or any(not 2 <= tensor.ndim <= 4 for tensor in tensors):
        raise ValueError(f'outputs of shapes {[tuple(tensor.shape) for tensor in tensors]} are no maps and no vectors')
    return [tuple(tensor.shape[1:]) for tensor in tensors]


def fit(shapes: Sequence[tuple[int, ...]], size: int) -> Fit:
    """The net of four stages whose outputs are nearest to these.

    Args:
        shapes: (C, H, W) of maps, (L, C) of tokens, (C,) of vectors. Of more than four the last four count.
        size: Pixels of the image.
    """
    shapes = shapes[-4:]
    pooled = all(len(shape) < 3 for shape in shapes)
    wanted = [math.log2(size / shape[-1]) if len(shape) == 3 else None for shape in shapes]

    def misfit(choice: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[float, int, tuple[int, ...]]:
        strides, indices = choice
        levels = list(itertools.accumulate(int(math.log2(stride)) for stride in strides))
        distance = sum(
            abs(levels[index] - level) for index, level in zip(indices, wanted, strict=True) if level is not None
        )
        return round(distance, 3), strides.count(1), tuple(-index for index in indices)

    strides, indices = min(
        itertools.product(
            [(4, *rest) for rest in itertools.product((2, 1), repeat=3)],
            itertools.combinations(range(4), len(shapes)),
        ),
        key=misfit,
    )
    channels = [32, 64, 128, 256]  # of stages that nobody reads
    for index, shape in zip(indices, shapes, strict=True):
        channels[index] = shape[0] if len(shape) == 3 else shape[-1]
    return Fit(tuple(channels), indices, strides, pooled)


def backbone_config(kind: str, found: Fit, original: Mapping[str, Any]) -> dict[str, Any]:
    """The dict that takes the original's place: a small net of the kind with a :class:`Fit`'s outputs.

    Args:
        kind: :data:`PELK` or :data:`CONVNEXT`, which has no strides.
        found: What it puts out.
        original: Its arguments that ``kind`` has too are kept, where the value can be one.
    """
    cfg: dict[str, Any] = {
        'type': kind,
        'arch': {'depths': (1, 1, 1, 1), 'channels': found.channels},
        'out_indices': list(found.out_indices),
        'gap_before_final_norm': found.pooled,
    }
    if kind == PELK:
        cfg['width_factor'] = 1.0
        if found.strides != (4, 2, 2, 2):
            cfg['strides'] = found.strides
    kept = {name: original[name] for name in _KEPT[kind] if name in original}
    if kept.get('frozen_stages', 0) > 4:
        del kept['frozen_stages']
    return cfg | kept


def swapped_in(model: nn.Module) -> nn.Module | None:
    """The first module of a model that is a PeLK or ConvNeXt, None if it has none."""
    names = {kind.rpartition('.')[2] for kind in (PELK, CONVNEXT)}
    return next((module for module in model.modules() if type(module).__name__ in names), None)


def _backbones_in(node: Any, place: Place) -> list[Place]:
    items: Any = ()
    if isinstance(node, Mapping):
        items = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    inner = [found for key, child in items for found in _backbones_in(child, (*place, key))]
    if inner or not place or not isinstance(node, Mapping) or 'type' not in node:
        return inner
    return [place] if place[-1] == 'backbone' or 'backbones' in _module_of(node['type']).split('.') else []


def _module_of(kind: Any) -> str:
    """The module that defines a type of a config; empty if it is unknown."""
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    return getattr(kind, '__module__', '')


def _tensors(output: Any) -> list[Tensor]:
    """An output's tensors; of a group inside it, such as a map and its class token, the first."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, list | tuple) else ()
    return [tensors[0] for tensors in map(_tensors, parts) if tensors]
