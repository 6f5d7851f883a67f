"""Norm and activation layers by config, from our own table: no name depends on the caller's default scope."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W) images, the ``LN2d`` of ConvNeXt."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def forward_channels_last(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


NORMS: dict[str, type[nn.Module]] = {
    'LN2d': LayerNorm2d,
    'BN': nn.BatchNorm2d,
    'SyncBN': nn.SyncBatchNorm,
}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    'GELU': nn.GELU,
    'ReLU': nn.ReLU,
    'SiLU': nn.SiLU,
}


def build_norm(cfg: Mapping[str, Any], channels: int, argument: str = 'norm_cfg') -> nn.Module:
    """A norm layer over ``channels`` from ``dict(type='LN2d' | 'BN' | 'SyncBN', ...)``.

    ``requires_grad=False`` freezes its parameters, as elsewhere in OpenMMLab; other keys go to the layer.

    Raises:
        ValueError: Unknown type or unknown keys.
    """
    check_cfg(argument, cfg)
    cfg = dict(cfg)
    requires_grad = cfg.pop('requires_grad', True)
    layer = _build(NORMS, cfg, argument, channels)
    if not requires_grad:
        layer.requires_grad_(False)
    return layer


def build_output_norm(cfg: Mapping[str, Any] | None, channels: int) -> nn.Module:
    """The norm of a backbone's output from ``output_norm_cfg``, the identity for None.

    Raises:
        ValueError: As for :func:`build_norm`.
    """
    return nn.Identity() if cfg is None else build_norm(cfg, channels, 'output_norm_cfg')


def build_branch_norm(norm_cfg: Mapping[str, Any] | None, channels: int) -> _BatchNorm:
    """A BatchNorm over ``channels`` that deployment can fold, from ``dict(type='BN' | 'SyncBN', ...)``, 'BN' for None.

    Raises:
        TypeError, ValueError: As for :func:`check_branch_norm_cfg` and :func:`build_norm`.
    """
    norm = build_norm(check_branch_norm_cfg(norm_cfg), channels)
    assert isinstance(norm, _BatchNorm)
    return norm


def build_activation(cfg: Mapping[str, Any], argument: str = 'act_cfg') -> nn.Module:
    """An activation from ``dict(type='GELU' | 'ReLU' | 'SiLU', ...)``.

    Raises:
        ValueError: Unknown type or unknown keys.
    """
    check_cfg(argument, cfg)
    return _build(ACTIVATIONS, dict(cfg), argument)


def check_cfg(argument: str, cfg: object) -> None:
    """Raise TypeError unless ``cfg`` is a dict."""
    if not isinstance(cfg, Mapping):
        raise TypeError(f"{argument} must be a dict such as dict(type='BN'), but got {cfg!r}")


def warn_of_batch_norm(network: str, norm_cfg: Mapping[str, Any]) -> None:
    """Give a ``UserWarning`` where ``norm_cfg``, such as one left behind by a ResNet's config, names a BatchNorm."""
    if isinstance(norm_cfg, Mapping) and norm_cfg.get('type') in ('BN', 'SyncBN'):
        warnings.warn(
            f'norm_cfg={dict(norm_cfg)} replaces the LayerNorms of {network} by BatchNorm: leave it out to keep them '
            "(the BatchNorms behind convolutions are branch_norm_cfg's)",
            stacklevel=2,
        )


def check_branch_norm_cfg(
    norm_cfg: Mapping[str, Any] | None, argument: str = "the mixer's norm_cfg"
) -> Mapping[str, Any]:
    """The config of BatchNorms that deployment folds, a mixer's say, ``dict(type='BN')`` for None.

    Raises:
        TypeError, ValueError: It is no BatchNorm, or one that deployment could not fold.
    """
    norm_cfg = {'type': 'BN'} if norm_cfg is None else norm_cfg
    check_cfg(argument, norm_cfg)
    if norm_cfg.get('type') not in ('BN', 'SyncBN'):
        raise ValueError(f"type of {argument} must be 'BN' or 'SyncBN', but got {norm_cfg.get('type')!r}")
    if not norm_cfg.get('track_running_stats', True):
        raise ValueError(f'{argument} must keep running statistics: deployment folds them')
    return norm_cfg


def _build(table: Mapping[str, type[nn.Module]], cfg: dict[str, Any], argument: str, *args: int) -> nn.Module:
    kind = cfg.pop('type', None)
    if not isinstance(kind, str) or kind not in table:
        raise ValueError(f'type of {argument} must be one of {", ".join(map(repr, table))}, but got {kind!r}')
    try:
        return table[kind](*args, **cfg)
    except TypeError as error:
        raise ValueError(f'{argument} holds keys that {kind} does not take: {sorted(cfg)} ({error})') from error


@torch.no_grad()
def batch_norm_scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The affine map y = scale * x + shift, each (C,) in float64, that an evaluating BatchNorm applies."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.affine:
        shift = shift + norm.bias
    return scale, shift
