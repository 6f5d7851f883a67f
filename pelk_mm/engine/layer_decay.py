"""Layer-wise and stage-wise learning-rate decay for any backbone that can tell the depth of its parameters.

The toolboxes' own constructors read the backbone's class name; this one asks ``backbone.get_layer_depth``, so it serves
PeLK, mmpretrain's backbones and a user's own alike. The learning rates are those of mmseg's and mmdet's ConvNeXt rule.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, register

DECAY_TYPES = ('layer_wise', 'stage_wise')
DECAY_MULTS = ('norm_decay_mult', 'bias_decay_mult', 'flat_decay_mult')
KNOWN_KEYS = ('decay_rate', 'decay_type', 'num_layers', 'custom_keys', *DECAY_MULTS)
CUSTOM_OPTIONS = ('lr_mult', 'decay_mult')
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


@register(OPTIM_WRAPPER_CONSTRUCTORS)
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Scales each parameter's learning rate by ``decay_rate ** (N + 1 - id)``.

    ``backbone.get_layer_depth(name, prefix)`` returns ``(depth, num_layers)``, and ``N = num_layers - 2``.
    ``layer_wise``: ``id`` is the depth. ``stage_wise``: ``id`` is 0 for the stem and every downsample layer, ``i + 1``
    for ``stages.{i}`` and ``pos_embeds.{i}``, ``N + 1`` for what follows the last stage. Under both, what is not in the
    backbone has ``id = N + 1``, the full learning rate. ``N`` is 6 for PeLK-T and 12 for PeLK-S and -B, so a stage-wise
    0.9 puts the last stage of T at ``0.9 ** 3``: the rule of the published ConvNeXt and SLaK recipes.

    Norms, biases, tensors of at most one dimension (layer scale among them) and parameters whose name holds one of
    ``backbone.no_weight_decay_keywords`` (optional tuple of str; PeLK names its positional embedding) get no weight
    decay. Frozen parameters are left out, shared ones are counted once.

    Args:
        optim_wrapper_cfg: As for mmengine's default constructor; its optimizer must state ``lr`` and ``weight_decay``.
        paramwise_cfg: Holds

            - ``decay_rate`` (float): in (0, 1].
            - ``decay_type`` (str): ``'layer_wise'`` (default) or ``'stage_wise'``.
            - ``num_layers`` (int, optional): another N. The last stage and what follows keep their distance from the
              end. Refused where it lifts a learning rate above the base one.
            - ``custom_keys`` (dict, optional): part of a parameter's name -> ``dict(lr_mult=..., decay_mult=...)``; the
              longest match wins. ``lr_mult`` multiplies the decayed learning rate, ``decay_mult`` replaces the rules
              for weight decay; the one left out changes nothing.
            - ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult`` (float): weight-decay factor of norms, of
              biases elsewhere, and of other tensors of at most one dimension. Default 0.

    Raises:
        ValueError: For an unknown key, a value out of range, a missing ``lr`` or ``weight_decay``, or a scale above 1.
        TypeError: For a model without a usable backbone.
    """

    def _validate_cfg(self) -> None:
        for option in ('lr', 'weight_decay'):
            if not _is_number(self.optimizer_cfg.get(option)):
                raise ValueError(f'layer decay needs optimizer.{option} as a number, got {dict(self.optimizer_cfg)}')
        super()._validate_cfg()
        cfg = self.paramwise_cfg
        if unknown := sorted(set(cfg) - set(KNOWN_KEYS)):
            raise ValueError(f'paramwise_cfg has unknown keys {unknown}; known are {list(KNOWN_KEYS)}')
        rate = cfg.get('decay_rate')
        if not _is_number(rate) or not 0 < rate <= 1:
            raise ValueError(f'paramwise_cfg.decay_rate must be a number in (0, 1], got {rate!r}')
        if cfg.get('decay_type', 'layer_wise') not in DECAY_TYPES:
            raise ValueError(f'paramwise_cfg.decay_type must be one of {DECAY_TYPES}, got {cfg["decay_type"]!r}')
        layers = cfg.get('num_layers')
        if layers is not None and (not isinstance(layers, int) or isinstance(layers, bool) or layers < 1):
            raise ValueError(f'paramwise_cfg.num_layers must be a positive int, got {layers!r}')
        _check_factors('paramwise_cfg', {key: cfg[key] for key in DECAY_MULTS if key in cfg})
        for key, options in cfg.get('custom_keys', {}).items():
            where = f'paramwise_cfg.custom_keys[{key!r}]'
            if not isinstance(options, Mapping) or not set(options) <= set(CUSTOM_OPTIONS):
                raise ValueError(f'{where} must be a dict with keys among {CUSTOM_OPTIONS}, got {options!r}')
            _check_factors(where, options)

    def add_params(self, params: list[dict[str, Any]], module: nn.Module) -> None:
        """Append one parameter group per layer id, weight-decay factor and custom key.

        Args:
            params: The list of groups, changed in place. Beside ``params``, ``lr`` and ``weight_decay`` a group carries
                ``lr_scale``, ``group_name`` and ``param_names``.
            module: Classifier, segmentor or detector with a ``backbone``, or a backbone itself.
        """
        backbone, prefix = backbone_with_depths(module)
        no_decay = _no_weight_decay_keywords(backbone)
        norm_params = {id(p) for m in module.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
        decay_type = self.paramwise_cfg.get('decay_type', 'layer_wise')
        custom_keys = self.paramwise_cfg.get('custom_keys', {})
        by_length = sorted(sorted(custom_keys), key=len, reverse=True)
        unmatched = set(custom_keys)
        groups: dict[str, dict[str, Any]] = {}
        for name, param in module.named_parameters():
            matches = [key for key in by_length if key in name]
            unmatched.difference_update(matches)
            if not param.requires_grad:
                continue
            layer, last = layer_id(backbone, prefix, name, decay_type, self.paramwise_cfg.get('num_layers'))
            scale = self._scale(name, layer, last)
            options = custom_keys[matches[0]] if matches else {}
            if 'decay_mult' in options:
                decay = options['decay_mult']
            elif name.startswith(prefix) and any(word in name[len(prefix) :] for word in no_decay):
                decay = 0.0
            else:
                decay = self._decay_mult(name, param, id(param) in norm_params)
            group_name = f'{decay_type[:5]}_{layer}_' + {0: 'no_decay', 1: 'decay'}.get(decay, f'decay_x{decay}')
            if matches:
                group_name += f'[{matches[0]}]'
            if group_name not in groups:
                scale *= options.get('lr_mult', 1.0)
                groups[group_name] = {
                    'params': [],
                    'param_names': [],
                    'group_name': group_name,
                    'lr_scale': scale,
                    'lr': self.base_lr * scale,
                    'weight_decay': self.base_wd * decay,
                }
            groups[group_name]['params'].append(param)
            groups[group_name]['param_names'].append(name)
        if not groups:
            raise ValueError(f'{type(module).__name__} has no trainable parameter: every requires_grad is False')
        if unmatched:
            # A warning, not an error: mmpretrain's shipped schedules carry Swin's keys to every backbone.
            print_log(
                f'paramwise_cfg.custom_keys {sorted(unmatched)} match no parameter of {type(module).__name__}',
                logger='current',
                level=logging.WARNING,
            )
        print_log(self._table(type(backbone).__name__, list(groups.values())), logger='current')
        params.extend(groups.values())

    def _scale(self, name: str, layer: int, last: int) -> float:
        scale = self.paramwise_cfg['decay_rate'] ** (last - layer)
        if scale > 1:
            raise ValueError(
                f'paramwise_cfg.num_layers={last - 1} gives parameter {name} (id {layer}) a learning-rate scale of '
                f"{scale:.4g}, above 1: raise it, or leave it out to use the backbone's own"
            )
        return scale

    def _decay_mult(self, name: str, param: nn.Parameter, is_norm: bool) -> float:
        if is_norm:
            return self.paramwise_cfg.get('norm_decay_mult', 0.0)
        if name.rpartition('.')[2] == 'bias':
            return self.paramwise_cfg.get('bias_decay_mult', 0.0)
        if param.ndim <= 1:
            return self.paramwise_cfg.get('flat_decay_mult', 0.0)
        return 1.0

    def _table(self, backbone: str, groups: list[dict[str, Any]]) -> str:
        width = max(len(group['group_name']) for group in groups)
        title = f'{self.paramwise_cfg.get("decay_type", "layer_wise")}, rate {self.paramwise_cfg["decay_rate"]:g}'
        rows = [f'Learning-rate decay for {backbone} ({title})']
        rows.append(f'{"group":{width}}  lr_scale         lr  weight_decay  tensors      values')
        rows.extend(
            f'{g["group_name"]:{width}}  {g["lr_scale"]:8.5f}  {g["lr"]:9.3e}  {g["weight_decay"]:12.4g}'
            f'  {len(g["params"]):7d}  {sum(p.numel() for p in g["params"]):10d}'
            for g in groups
        )
        return '\n'.join(rows)


def backbone_with_depths(model: nn.Module) -> tuple[nn.Module, str]:
    """The module that knows the depths, and the prefix of its parameters' names.

    Args:
        model: Has a ``backbone``, or is one. A wrapper with ``.module`` around the backbone is looked through.

    Returns:
        The backbone and its prefix, ``'backbone.'`` or ``''`` (with ``'module.'`` behind it for a wrapped one).

    Raises:
        TypeError: No ``get_layer_depth`` was found.
    """
    inner: Any = getattr(model, 'backbone', model)
    prefix = '' if inner is model else 'backbone.'
    while not hasattr(inner, 'get_layer_depth') and isinstance(getattr(inner, 'module', None), nn.Module):
        inner, prefix = inner.module, prefix + 'module.'
    if not callable(getattr(inner, 'get_layer_depth', None)):
        lacks = 'no get_layer_depth' if prefix else 'neither a backbone nor get_layer_depth'
        raise TypeError(
            f'layer decay asks the backbone for depths, but {type(inner).__name__} has {lacks}: add '
            '`def get_layer_depth(self, param_name, prefix="")` that returns (depth, num_layers), as PeLK has'
        )
    return inner, prefix


def layer_id(backbone: Any, prefix: str, name: str, decay_type: str, num_layers: int | None = None) -> tuple[int, int]:
    """The id of a parameter and the last id, N + 1.

    Args:
        backbone: Has ``get_layer_depth``.
        prefix: Prefix of the backbone's parameters in ``name``.
        name: Full name of the parameter.
        decay_type: ``'layer_wise'`` or ``'stage_wise'``.
        num_layers: N to use in place of the backbone's.

    Returns:
        ``(id, N + 1)``; the learning-rate scale is ``rate ** (N + 1 - id)``.

    Raises:
        ValueError: The backbone gives no valid depth for this parameter, or it has no place in a stage.
    """
    kind = type(backbone).__name__
    try:
        depth, count = backbone.get_layer_depth(name, prefix=prefix)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f'{kind}.get_layer_depth cannot place parameter {name}: {error}') from error
    own_last = count - 1
    if not 0 <= depth <= own_last:
        raise ValueError(f'{kind}.get_layer_depth gives {name} depth {depth}, not one of 0 to {own_last}')
    last = own_last if num_layers is None else num_layers + 1
    if decay_type == 'layer_wise':
        return (depth + last - own_last if depth >= own_last - 1 else depth), last
    if depth == own_last:
        return last, last
    inner = name[len(prefix) :]
    if depth == 0 or inner.startswith('downsample_layers.'):
        return 0, last
    if found := re.match(r'(?:stages|pos_embeds)\.(\d+)(?:\.|$)', inner):
        return int(found[1]) + 1, last
    raise ValueError(
        f'stage-wise decay cannot place parameter {name} of {kind}: it knows the names downsample_layers.{{i}}, '
        "stages.{i} and pos_embeds.{i}; use decay_type='layer_wise'"
    )


def _no_weight_decay_keywords(backbone: nn.Module) -> tuple[str, ...]:
    words = getattr(backbone, 'no_weight_decay_keywords', ())
    if isinstance(words, str) or not all(isinstance(word, str) and word for word in words):
        raise TypeError(f'{type(backbone).__name__}.no_weight_decay_keywords must be a tuple of str, got {words!r}')
    return tuple(words)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_factors(where: str, factors: Mapping[str, Any]) -> None:
    for key, value in factors.items():
        if not _is_number(value) or not 0 <= value < float('inf'):
            raise ValueError(f'{where}: {key} must be a non-negative number, got {value!r}')
