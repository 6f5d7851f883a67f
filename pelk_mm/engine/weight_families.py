"""Layouts of the authors' checkpoints, as tables from their keys to those of the networks used here.

Keys of the target are those of mmpretrain's ``ImageClassifier``: ``backbone.``, ``neck.``, ``head.fc.``. The layouts
are facts of the authors' public code; ``docs/weights.md`` names the repositories.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from .convnext_to_pelk import in_the_centre, silence_all_but_the_kernel
from .weight_rules import Renamed, Rule, Transform, as_linear, by_channel, flat

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
    """

    network: str
    rules: tuple[Rule, ...]
    read_args: Callable[[Found], dict[str, Any]]
    args: Mapping[str, Any] = field(default_factory=dict)
    width_factor: float = 1.0
    own: str = '(?!)'
    prepare: Callable[[nn.Module], None] | None = None
    neck: str | None = None


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


def _read_shiftwise(found: Found) -> dict[str, Any]:
    filters = 'backbone.stages.0.0.mixer.weight'
    size = shape_of(found, filters, 4)[-1]
    return {**_read_arch(found), 'small_kernel': size, 'rep_paths': len(found[filters].values)}


def _read_slak(found: Found) -> dict[str, Any]:
    shapes = [shape_of(found, f'backbone.stages.{stage}.0.mixer.tall_weight', 4) for stage in range(4)]
    sizes = tuple(shape[2] for shape in shapes)
    return {**_read_arch(found), 'kernel_sizes': sizes, 'small_kernel': shapes[0][3]}


def _read_inceptionnext(found: Found) -> dict[str, Any]:
    return _read_arch(found, axes=4)


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
    numbers = [name.removeprefix(prefix).split('.')[0] for name in found if name.startswith(prefix)]
    return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)


def _same(pattern: str) -> Rule:
    return Rule(f'({pattern})', r'backbone.\1')


def _block(pattern: str, name: str, transform: Transform | None = None, stack: bool = False, blocks: str = '') -> Rule:
    """A rule for each block, ``stages.{s}.{blocks}{b}``; ``name`` sees the pattern's groups as ``p`` and the like."""
    place = rf'stages\.(?P<s>\d+)\.{blocks}(?P<b>\d+)\.'
    return Rule(place + pattern, rf'backbone.stages.\g<s>.\g<b>.{name}', transform, stack)


_SKELETON = (
    _same(r'downsample_layers\..*'),
    _same(r'stages\.\d+\.\d+\.(?:gamma|norm\..*)'),
    Rule(r'norm\.(.*)', r'backbone.norm3.\1'),
    Rule(r'head\.(weight|bias)', r'head.fc.\1'),
)
_UNIREP = (
    *_SKELETON,
    _block(r'se\.(?P<p>.*)', r'se.\g<p>'),
    _block(r'pwconv1\.1\.(?P<p>.*)', r'pointwise_conv1.\g<p>'),
    _block(r'act\.1\.(?P<p>gamma|beta)', r'grn.\g<p>', flat),
    _block(r'pwconv2\.0\.(?P<p>.*)', r'pointwise_conv2.\g<p>'),
    _block(r'pwconv2\.2\.(?P<p>.*)', r'out_norm.\g<p>'),
)
_meta_block = partial(_block, blocks=r'blocks\.')  # InceptionNeXt's stages hold more than blocks
# mmpretrain's own layout of ConvNeXt is read too: it differs in prefixes and in these names.
_CONVNEXT = (
    Rule(r'(?:backbone\.)?(downsample_layers\..*)', r'backbone.\1'),
    Rule(r'(?:backbone\.)?(stages\.\d+\.\d+\.(?:gamma|norm\..*))', r'backbone.\1'),
    Rule(r'(?:backbone\.)?(stages\.\d+\.\d+\.)(?:pw|pointwise_)conv([12]\..*)', r'backbone.\1pointwise_conv\2'),
    Rule(r'(?:backbone\.norm3|norm3?)\.(.*)', r'backbone.norm3.\1'),
    Rule(r'head\.(?:fc\.)?(weight|bias)', r'head.fc.\1'),
)
_DEPTHWISE = r'(?:backbone\.)?(stages\.\d+\.\d+\.)(?:dw|depthwise_)conv\.'

FAMILIES = {
    'shiftwise': Family(
        'pelk_mm.ShiftWiseNet',
        (
            *_UNIREP,
            _block(r'large_kernel\.LoRA(?:s\.\d+)?\.weight', 'mixer.weight', by_channel, stack=True),
            _block(r'large_kernel\.bn_lora1\.(?P<p>.*)', r'mixer.wide_norm.\g<p>'),
            _block(r'large_kernel\.bn_lora2\.(?P<p>.*)', r'mixer.tall_norm.\g<p>'),
            _block(r'large_kernel\.bn_small\.(?P<p>.*)', r'mixer.small_norm.\g<p>'),
        ),
        _read_shiftwise,
        own=r'backbone\.stages\..*\.mixer\.(rep_channels|ghost_channels|horizontal|vertical|identity)',
    ),
    'slak': Family(
        'pelk_mm.SLaK',
        (
            *_SKELETON,
            _block(r'pwconv(?P<n>[12])\.(?P<p>weight|bias)', r'pointwise_conv\g<n>.\g<p>'),
            _block(r'large_kernel\.(?:LoRA|Decom)1\.conv\.weight', 'mixer.tall_weight'),
            _block(r'large_kernel\.(?:LoRA|Decom)1\.bn\.(?P<p>.*)', r'mixer.tall_norm.\g<p>'),
            _block(r'large_kernel\.(?:LoRA|Decom)2\.conv\.weight', 'mixer.wide_weight'),
            _block(r'large_kernel\.(?:LoRA|Decom)2\.bn\.(?P<p>.*)', r'mixer.wide_norm.\g<p>'),
            _block(r'large_kernel\.small_conv\.conv\.weight', 'mixer.small_weight'),
            _block(r'large_kernel\.small_conv\.bn\.(?P<p>.*)', r'mixer.small_norm.\g<p>'),
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
        _read_arch,
    ),
    'inceptionnext': Family(
        'pelk_mm.InceptionNeXt',
        (
            Rule(r'stem\.(.*)', r'backbone.downsample_layers.0.\1'),
            Rule(r'stages\.(\d+)\.downsample\.(.*)', r'backbone.downsample_layers.\1.\2'),
            _meta_block(r'(?P<p>gamma|norm\..*)', r'\g<p>'),
            _meta_block(r'token_mixer\.dwconv_hw\.(?P<p>weight|bias)', r'mixer.square_\g<p>'),
            _meta_block(r'token_mixer\.dwconv_w\.(?P<p>weight|bias)', r'mixer.wide_\g<p>'),
            _meta_block(r'token_mixer\.dwconv_h\.(?P<p>weight|bias)', r'mixer.tall_\g<p>'),
            _meta_block(r'mlp\.fc(?P<n>[12])\.(?P<p>weight|bias)', r'pointwise_conv\g<n>.\g<p>', as_linear),
            Rule(r'head\.fc1\.(.*)', r'neck.fc.\1'),
            Rule(r'head\.norm\.(.*)', r'neck.norm.\1'),
            Rule(r'head\.fc2\.(.*)', r'head.fc.\1'),
        ),
        _read_inceptionnext,
        neck='pelk_mm.MlpNeck',
    ),
    'replknet': Family(
        'mmpretrain.RepLKNet',
        (
            _same(r'(?:stem|stages|transitions)\..*'),
            Rule(r'norm\.(.*)', r'backbone.stages.3.norm.\1'),
            Rule(r'head\.(weight|bias)', r'head.fc.\1'),
        ),
        _read_replknet,
        neck='GlobalAveragePooling',
    ),
    'convnext': Family(
        'mmpretrain.ConvNeXt',
        (*_CONVNEXT, Rule(rf'{_DEPTHWISE}(.*)', r'backbone.\1depthwise_conv.\2')),
        _read_arch,
    ),
    'convnext-to-pelk': Family(
        'pelk_mm.PeLK',
        (
            *_CONVNEXT,
            Rule(rf'{_DEPTHWISE}weight', r'backbone.\1mixer.w_theta', in_the_centre),
            Rule(rf'{_DEPTHWISE}bias', r'backbone.\1mixer.norm.bias'),
        ),
        _read_arch,
        args={'width_factor': 1.0, 'conv_ratio': 1.0, 'central_size': 7},
        own=r'backbone\.(pos_embeds\..*|stages\..*\.mixer\.(small_.*|norm\.(weight|running_mean|running_var)))',
        prepare=silence_all_but_the_kernel,
    ),
}
