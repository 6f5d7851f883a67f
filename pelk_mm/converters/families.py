"""Layouts of the authors' checkpoints, as tables from their keys to those of the networks used here.

Keys of the target are those of mmpretrain's ``ImageClassifier``: ``backbone.``, ``neck.``, ``head.fc.``. The layouts
are facts of the authors' public code; ``docs/guide/weights.md`` names the repositories.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from ..layers.mixers.shuffles import count_convolved
from ..models.unireplknet import planned_kernel_size
from .convnext_to_pelk import in_the_centre, silence_all_but_the_kernel
from .rules import Renamed, Rule, Transform, as_linear, by_channel, flat

Found = Mapping[str, Renamed]


@dataclass(frozen=True)
class Family:
    """A layout and the network it is translated for.

    Attributes:
        network: Type of the backbone with its package, as in a config.
        rules: The table.
        read_args: Arguments of the backbone that names and shapes show, ``arch`` as a dict among them; a KeyError where
            a name that it looks for is missing.
        args: Arguments that differ from the backbone's defaults for every checkpoint.
        width_factor: What the backbone multiplies the channels of its named architectures with.
        own: Regular expression of the target's names that no file of the authors has.
        prepare: Sets what ``own`` keeps in the fresh backbone.
        neck: Type of what mmpretrain's classifier needs between backbone and head.
        unseen: Arguments of the backbone that decide what it computes, but that no name or shape shows for certain.
    """

    network: str
    rules: tuple[Rule, ...]
    read_args: Callable[[Found], dict[str, Any]]
    args: Mapping[str, Any] = field(default_factory=dict)
    width_factor: float = 1.0
    own: str = '(?!)'
    prepare: Callable[[nn.Module], None] | None = None
    neck: str | None = None
    unseen: tuple[str, ...] = ()


def shape_of(found: Found, name: str, axes: int) -> tuple[int, ...]:
    """Shape of what was found under ``name``.

    Raises:
        KeyError: Naming it: there is none, or it has another number of axes.
    """
    if name not in found or len(found[name].shape) != axes:
        raise KeyError(name)
    return tuple(found[name].shape)


def _read_arch(found: Found, axes: int = 2) -> dict[str, Any]:
    depths = tuple(_count(found, f'backbone.stages.{stage}.') for stage in range(4))
    layers = [f'backbone.stages.{stage}.0.pointwise_conv1.weight' for stage in range(4)]
    return {'arch': {'depths': depths, 'channels': tuple(shape_of(found, name, axes)[1] for name in layers)}}


def _read_convnext(found: Found) -> dict[str, Any]:
    first = found.get('backbone.stages.0.0.pointwise_conv1.weight')  # timm's small ones are 1 x 1 convolutions
    args = _read_arch(found, axes=2 if first is None else len(first.shape))
    if 'backbone.stages.0.0.grn.gamma' in found:  # ConvNeXt V2
        args |= {'use_grn': True, 'layer_scale_init_value': 0.0}
    return args


def _read_shiftwise(found: Found) -> dict[str, Any]:
    filters = 'backbone.stages.0.0.mixer.weight'
    args = {**_read_arch(found), 'small_kernel': shape_of(found, filters, 4)[-1]}
    args['rep_paths'] = len(found[filters].values)
    norms = [f'backbone.stages.{stage}.0.mixer.wide_norm.weight' for stage in range(4)]
    counts = [(width, shape_of(found, name, 1)[0]) for width, name in zip(args['arch']['channels'], norms, strict=True)]
    # every ratio that gives these counts gives the same ghost channels; the published one first
    for percent in (23, *range(100)):
        if all(count_convolved(width, percent / 100) == count for width, count in counts):
            return {**args, 'ghost_ratio': percent / 100}
    return args


def _read_slak(found: Found) -> dict[str, Any]:
    shapes = [shape_of(found, f'backbone.stages.{stage}.0.mixer.tall_weight', 4) for stage in range(4)]
    sizes = tuple(shape[2] for shape in shapes)
    return {**_read_arch(found), 'kernel_sizes': sizes, 'small_kernel': shapes[0][3]}


def _read_unireplknet(found: Found) -> dict[str, Any]:
    args = _read_arch(found)
    plan, sizes = [], []
    for stage, depth in enumerate(args['arch']['depths']):
        names = [f'backbone.stages.{stage}.{block}.mixer.weight' for block in range(depth)]
        sizes.append(tuple(shape_of(found, name, 4)[-1] for name in names))
        plan.append(tuple(planned_kernel_size(stage, block, depth) for block in range(depth)))
    return args if sizes == plan else {**args, 'kernel_sizes': tuple(sizes)}


def _read_replknet(found: Found) -> dict[str, Any]:
    blocks = [f'backbone.stages.{stage}.blocks.0.' for stage in range(4)]
    kernels = [shape_of(found, f'{block}large_kernel.lkb_origin.conv.weight', 4) for block in blocks]
    channels = [shape_of(found, f'{block}prelkb_bn.weight', 1)[0] for block in blocks]
    small = f'{blocks[0]}large_kernel.small_conv.conv.weight'
    ratio = kernels[0][0] / channels[0]
    arch = {
        'large_kernel_sizes': [shape[-1] for shape in kernels],
        'layers': [_count(found, f'backbone.stages.{stage}.blocks.') // 2 for stage in range(4)],
        'channels': channels,
        'small_kernel': shape_of(found, small, 4)[-1] if small in found else None,
        'dw_ratio': int(ratio) if ratio == int(ratio) else ratio,
    }
    return {'arch': arch}


def _count(found: Found, prefix: str) -> int:
    return len({name.removeprefix(prefix).split('.')[0] for name in found if name.startswith(prefix)})


def _same(pattern: str) -> Rule:
    return Rule(f'({pattern})', r'backbone.\1')


def _block(pattern: str, name: str, transform: Transform | None = None, stack: bool = False, blocks: str = '') -> Rule:
    """A rule for each block, ``stages.{s}.{blocks}{b}``; ``name`` sees the pattern's groups as ``p`` and the like."""
    place = rf'stages\.(?P<s>\d+)\.{blocks}(?P<b>\d+)\.'
    return Rule(place + pattern, rf'backbone.stages.\g<s>.\g<b>.{name}', transform, stack)


def _branches(pattern: str, name: str, names: Mapping[str, str], blocks: str = '') -> tuple[Rule, ...]:
    """One rule of :func:`_block` for each pair of ``names``, theirs and ours, in the places of ``@``."""
    return tuple(
        _block(pattern.replace('@', theirs), name.replace('@', ours), blocks=blocks) for theirs, ours in names.items()
    )


_HEAD = Rule(r'head\.(weight|bias)', r'head.fc.\1')
_SKELETON = (
    _same(r'downsample_layers\..*'),
    _same(r'stages\.\d+\.\d+\.(?:gamma|norm\..*)'),
    Rule(r'norm\.(.*)', r'backbone.norm3.\1'),
    _HEAD,
)
_UNIREP = (
    *_SKELETON,
    _block(r'se\.(?P<p>.*)', r'se.\g<p>'),
    _block(r'pwconv1\.1\.(?P<p>.*)', r'pointwise_conv1.\g<p>'),
    _block(r'act\.1\.(?P<p>gamma|beta)', r'grn.\g<p>', flat),
    _block(r'pwconv2\.0\.(?P<p>.*)', r'pointwise_conv2.\g<p>'),
    _block(r'pwconv2\.2\.(?P<p>.*)', r'out_norm.\g<p>'),
)
# InceptionNeXt's stages hold more than blocks.
_meta_block = partial(_block, blocks=r'blocks\.')
_meta_branches = partial(_branches, blocks=r'blocks\.')
# The branches of the mixers, by the authors' names.
_SHIFTWISE_BRANCHES = {'lora1': 'wide', 'lora2': 'tall', 'small': 'small'}
_SLAK_BRANCHES = {'(?:LoRA|Decom)1': 'tall', '(?:LoRA|Decom)2': 'wide', 'small_conv': 'small'}
_INCEPTION_BRANCHES = {'hw': 'square', 'w': 'wide', 'h': 'tall'}
# Besides its authors' layout of ConvNeXt, mmpretrain's is read, which differs in prefixes and in the names of a block's
# layers, and timm's, which has stages of more than blocks.
_CONVNEXT = (
    Rule(r'stem\.(.*)', r'backbone.downsample_layers.0.\1'),
    Rule(r'stages\.(\d+)\.downsample\.(.*)', r'backbone.downsample_layers.\1.\2'),
    _meta_block(r'(?P<p>gamma|norm\..*)', r'\g<p>'),
    _meta_block(r'mlp\.fc(?P<n>[12])\.(?P<p>weight|bias)', r'pointwise_conv\g<n>.\g<p>', as_linear),
    _meta_block(r'mlp\.grn\.weight', 'grn.gamma'),
    _meta_block(r'mlp\.grn\.bias', 'grn.beta'),
    Rule(r'head\.norm\.(.*)', r'backbone.norm3.\1'),
    Rule(r'(?:backbone\.)?(stages\.\d+\.\d+\.grn\.(?:gamma|beta))', r'backbone.\1', flat),
    Rule(r'(?:backbone\.)?(downsample_layers\..*)', r'backbone.\1'),
    Rule(r'(?:backbone\.)?(stages\.\d+\.\d+\.(?:gamma|norm\..*))', r'backbone.\1'),
    Rule(r'(?:backbone\.)?(stages\.\d+\.\d+\.)(?:pw|pointwise_)conv([12]\..*)', r'backbone.\1pointwise_conv\2'),
    Rule(r'(?:backbone\.norm3|norm3?)\.(.*)', r'backbone.norm3.\1'),
    Rule(r'head\.(?:fc\.)?(weight|bias)', r'head.fc.\1'),
)
_DEPTHWISE = r'(?:backbone\.)?stages\.(\d+)\.(?:blocks\.)?(\d+)\.(?:dwconv|depthwise_conv|conv_dw)\.'

FAMILIES = {
    'shiftwise': Family(
        'pelk_mm.ShiftWiseNet',
        (
            *_UNIREP,
            _block(r'large_kernel\.LoRA(?:s\.\d+)?\.weight', 'mixer.weight', by_channel, stack=True),
            *_branches(r'large_kernel\.bn_@\.(?P<p>.*)', r'mixer.@_norm.\g<p>', _SHIFTWISE_BRANCHES),
        ),
        _read_shiftwise,
        unseen=('kernel_sizes', 'edges'),
        own=r'backbone\.stages\..*\.mixer\.(rep_channels|ghost_channels|horizontal|vertical|identity)',
    ),
    'slak': Family(
        'pelk_mm.SLaK',
        (
            *_SKELETON,
            _block(r'pwconv(?P<n>[12])\.(?P<p>weight|bias)', r'pointwise_conv\g<n>.\g<p>'),
            *_branches(r'large_kernel\.@\.conv\.weight', 'mixer.@_weight', _SLAK_BRANCHES),
            *_branches(r'large_kernel\.@\.bn\.(?P<p>.*)', r'mixer.@_norm.\g<p>', _SLAK_BRANCHES),
        ),
        _read_slak,
        width_factor=1.3,
    ),
    'unireplknet': Family(
        'pelk_mm.UniRepLKNet',
        (
            *_UNIREP,
            _block(r'dwconv\.(?:lk_origin\.)?weight', 'mixer.weight'),
            _block(r'dwconv\.origin_bn\.(?P<p>.*)', r'mixer.norm.\g<p>'),
            _block(r'dwconv\.dil_conv_k(?P<k>\d+)_(?P<r>\d+)\.weight', r'mixer.dilated_weight_k\g<k>_r\g<r>'),
            _block(r'dwconv\.dil_bn_k(?P<k>\d+)_(?P<r>\d+)\.(?P<p>.*)', r'mixer.dilated_norm_k\g<k>_r\g<r>.\g<p>'),
        ),
        _read_unireplknet,
    ),
    'inceptionnext': Family(
        'pelk_mm.InceptionNeXt',
        (
            Rule(r'stem\.(.*)', r'backbone.downsample_layers.0.\1'),
            Rule(r'stages\.(\d+)\.downsample\.(.*)', r'backbone.downsample_layers.\1.\2'),
            _meta_block(r'(?P<p>gamma|norm\..*)', r'\g<p>'),
            *_meta_branches(r'token_mixer\.dwconv_@\.(?P<p>weight|bias)', r'mixer.@_\g<p>', _INCEPTION_BRANCHES),
            _meta_block(r'mlp\.fc(?P<n>[12])\.(?P<p>weight|bias)', r'pointwise_conv\g<n>.\g<p>', as_linear),
            Rule(r'head\.fc1\.(.*)', r'neck.fc.\1'),
            Rule(r'head\.norm\.(.*)', r'neck.norm.\1'),
            Rule(r'head\.fc2\.(.*)', r'head.fc.\1'),
        ),
        partial(_read_arch, axes=4),
        neck='pelk_mm.MlpNeck',
    ),
    'replknet': Family(
        'mmpretrain.RepLKNet',
        (
            _same(r'(?:stem|stages|transitions)\..*'),
            Rule(r'norm\.(.*)', r'backbone.stages.3.norm.\1'),
            _HEAD,
        ),
        _read_replknet,
        neck='GlobalAveragePooling',
    ),
    'convnext': Family(
        'mmpretrain.ConvNeXt',
        (*_CONVNEXT, Rule(rf'{_DEPTHWISE}(.*)', r'backbone.stages.\1.\2.depthwise_conv.\3')),
        _read_convnext,
    ),
    'convnext-to-pelk': Family(
        'pelk_mm.PeLK',
        (
            *_CONVNEXT,
            Rule(rf'{_DEPTHWISE}weight', r'backbone.stages.\1.\2.mixer.w_theta', in_the_centre),
            Rule(rf'{_DEPTHWISE}bias', r'backbone.stages.\1.\2.mixer.norm.bias'),
        ),
        _read_convnext,
        args={'width_factor': 1.0, 'conv_ratio': 1.0, 'central_size': 7},
        own=r'backbone\.(pos_embeds\..*|stages\..*\.mixer\.(small_.*|norm\.(weight|running_mean|running_var)))',
        prepare=silence_all_but_the_kernel,
    ),
}
