"""Our backbones by name in timm: ``import pelk_mm.hub.timm``, then ``timm.create_model('pelk_tiny')``.

Importing registers the names in ``NAMES``: a family and the ``arch`` of its class, ``'slak_small'`` say. timm has an
InceptionNeXt of its own, ``inception_next_*``; ours is ``pelk_mm_inceptionnext_*``. OverLoCK has none: its classifier
reads maps. What a model does is said in :class:`pelk_mm.hub.timm_model.TimmModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.utils import digit_version
from torch import nn

from ..models import (
    InceptionNeXt,
    LargeKernelBackbone,
    PeLK,
    RepLK51,
    ShiftWiseNet,
    ShiftWiseNetV1,
    SLaK,
    UniConvNet,
    UniRepLKNet,
    WBMMNet,
    WTConvNeXt,
)
from ..models.skeleton import MIN_IMAGE_SIZE
from .timm_model import STAGES, TimmModel
from .timm_weights import fit_state_dict

#: The first timm that takes features from ``forward_intermediates``.
OLDEST_TIMM = '1.0.3'
INSTALL = 'pip install "pelk_mm[timm]"'

try:
    import timm
    from timm.models import (
        build_model_with_cfg,
        generate_default_cfgs,
        is_model,
        model_entrypoint,
        register_model,
        resolve_pretrained_cfg,
    )
except ModuleNotFoundError as error:
    if error.name != 'timm':
        raise ImportError(f'pelk_mm.hub.timm needs timm, which does not import: {error}') from error
    raise ImportError(f'pelk_mm.hub.timm needs timm, which is not installed: {INSTALL}') from error
if digit_version(timm.__version__) < digit_version(OLDEST_TIMM):
    raise ImportError(f'pelk_mm.hub.timm needs timm {OLDEST_TIMM} or newer, but found {timm.__version__}: {INSTALL}')


class Family(NamedTuple):
    """Names that begin alike: ``{prefix}_{arch}`` for each of ``arches``, all of the class by default."""

    prefix: str
    backbone: type[LargeKernelBackbone]
    arguments: Mapping[str, Any] = {}
    arches: Sequence[str] = ()


FAMILIES = (
    Family('pelk', PeLK),
    Family('pelk_101', PeLK, {'kernel_sizes': (101, 69, 67, 13), 'central_size': 7}, ('tiny', 'small', 'base')),
    Family('shiftwise', ShiftWiseNet),
    Family('shiftwise_v1', ShiftWiseNetV1),
    Family('slak', SLaK),
    Family('replk51', RepLK51),
    Family('unireplknet', UniRepLKNet),
    Family('pelk_mm_inceptionnext', InceptionNeXt),
    Family('wtconvnext', WTConvNeXt),
    Family('wbmm', WBMMNet),
    Family('uniconvnet', UniConvNet),
)
#: What each name builds: a backbone's class and its arguments.
NAMES: dict[str, tuple[type[LargeKernelBackbone], dict[str, Any]]] = {
    f'{family.prefix}_{arch}': (family.backbone, {'arch': arch, **family.arguments})
    for family in FAMILIES
    for arch in family.arches or family.backbone.arch_settings
}
#: The configs from which timm takes image size, mean and first and last layer; none names weights.
default_cfgs = generate_default_cfgs(
    {
        name: {
            'pool_size': (7, 7),
            'min_input_size': (3, MIN_IMAGE_SIZE, MIN_IMAGE_SIZE),
            'first_conv': 'backbone.downsample_layers.0.0',
            'classifier': 'head.fc',
            'license': 'apache-2.0',
        }
        for name in NAMES
    }
)
__all__ = ['FAMILIES', 'NAMES', 'Family', 'create']  # timm adds the names that it registers


def create(
    name: str,
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a net, as timm's ``create_model`` asks for it.

    Args:
        name: One of ``NAMES``.
        pretrained: Load weights from the source that the next two name.
        pretrained_cfg: timm's description of a checkpoint, instead of that in ``default_cfgs``.
        pretrained_cfg_overlay: Entries that replace some of it: ``dict(file='weights.safetensors', num_classes=10)``.
        **kwargs: ``features_only`` and ``out_indices``, what else timm's builder takes, and arguments of
            :class:`TimmModel`.

    Returns:
        A :class:`TimmModel`, or timm's ``FeatureGetterNet`` around one with ``features_only``.

    Raises:
        RuntimeError: ``pretrained=True`` without a source of weights.
        FileNotFoundError: The source is a file that does not exist.
        TypeError, ValueError: An argument is outside its choices, or the checkpoint is of another net.
    """
    if pretrained:
        cfg = resolve_pretrained_cfg(name, pretrained_cfg=pretrained_cfg, pretrained_cfg_overlay=pretrained_cfg_overlay)
        if not (cfg.has_weights or cfg.state_dict):
            raise RuntimeError(
                f'{name} has no published weights: write pretrained=False, or name your own with '
                "pretrained=True, pretrained_cfg_overlay=dict(file='weights.safetensors')"
            )
        if cfg.file and not Path(cfg.file).exists():
            raise FileNotFoundError(f'the weights of {name} should be in {cfg.file}, which does not exist')
    feature_cls = kwargs.pop('feature_cls', 'getter') if kwargs.get('features_only') else 'getter'
    if feature_cls != 'getter':
        raise ValueError(f"feature_cls must be 'getter', but got {feature_cls!r}: stages are no chain of modules")
    backbone, arguments = NAMES[name]
    model: nn.Module = build_model_with_cfg(
        partial(TimmModel, backbone, mlp_neck=backbone is InceptionNeXt),
        name,
        pretrained,
        pretrained_cfg=pretrained_cfg,
        pretrained_cfg_overlay=pretrained_cfg_overlay,
        pretrained_filter_fn=fit_state_dict,
        feature_cfg={'out_indices': tuple(range(STAGES)), 'feature_cls': feature_cls},
        **{**arguments, **kwargs},
    )
    return model


def _entrypoint(name: str) -> Callable[..., nn.Module]:
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create(name, pretrained, **kwargs)

    backbone, arguments = NAMES[name]
    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = f'{backbone.__name__}({", ".join(f"{key}={value!r}" for key, value in arguments.items())}).'
    return entrypoint


def _register() -> None:
    """Register every name, or none of them.

    Raises:
        ValueError: One of the names is taken by another package.
    """
    taken = [name for name in NAMES if is_model(name) and model_entrypoint(name).__module__ != __name__]
    if taken:
        raise ValueError(
            f'timm already knows a model called {taken[0]!r}, from {model_entrypoint(taken[0]).__module__}: '
            'import pelk_mm.hub.timm before what registered it'
        )
    for name in NAMES:
        globals()[name] = register_model(_entrypoint(name))


_register()
