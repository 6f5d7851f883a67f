"""What the tables of :mod:`.families` are made of: a family, its reader's helpers, and the rules that several share.

Keys of the target are those of mmpretrain's ``ImageClassifier``: ``backbone.``, ``neck.``, ``head.fc.``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from .rules import Renamed, Rule, Transform, as_linear, flat

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
        head: Type of the classifier's head.
        left_out: Regular expression of keys that hold no weights: tables of indices, fixed filters.
        dense: Whether segmentors and detectors of mmseg and mmdet are read too: their backbones are translated, the
            other parts, whose names are the toolboxes', go through.
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
    head: str = 'LinearClsHead'
    left_out: str = '(?!)'
    dense: bool = False
    unseen: tuple[str, ...] = ()


def shape_of(found: Found, name: str, axes: int) -> tuple[int, ...]:
    """Shape of what was found under ``name``.

    Raises:
        KeyError: Naming it: there is none, or it has another number of axes.
    """
    if name not in found or len(found[name].shape) != axes:
        raise KeyError(name)
    return tuple(found[name].shape)


def read_arch(found: Found, axes: int = 2) -> dict[str, Any]:
    """``arch`` of a net on the skeleton, whose linears are stored with ``axes`` axes."""
    depths = tuple(count_parts(found, f'backbone.stages.{stage}.') for stage in range(4))
    layers = [f'backbone.stages.{stage}.0.pointwise_conv1.weight' for stage in range(4)]
    return {'arch': {'depths': depths, 'channels': tuple(shape_of(found, name, axes)[1] for name in layers)}}


def read_outputs(found: Found) -> dict[str, Any]:
    """What the backbone of a segmentor or detector differs in: all outputs, as maps."""
    if not all(f'backbone.norm{stage}.weight' in found for stage in range(4)):
        return {}
    return {'out_indices': (0, 1, 2, 3), 'gap_before_final_norm': False}


def count_parts(found: Found, prefix: str) -> int:
    """How many parts have names that start with ``prefix``."""
    return len({name.removeprefix(prefix).split('.')[0] for name in found if name.startswith(prefix)})


def same_rule(pattern: str) -> Rule:
    """A rule for names of the backbone that stay."""
    return Rule(f'({pattern})', r'backbone.\1')


def block_rule(
    pattern: str, name: str, transform: Transform | None = None, stack: bool = False, blocks: str = ''
) -> Rule:
    """A rule for each block, ``stages.{s}.{blocks}{b}``; ``name`` sees the pattern's groups as ``p`` and the like."""
    place = rf'stages\.(?P<s>\d+)\.{blocks}(?P<b>\d+)\.'
    return Rule(place + pattern, rf'backbone.stages.\g<s>.\g<b>.{name}', transform, stack)


def branch_rules(pattern: str, name: str, names: Mapping[str, str], blocks: str = '') -> tuple[Rule, ...]:
    """One rule of :func:`block_rule` for each pair of ``names``, theirs and ours, in the places of ``@``."""
    return tuple(
        block_rule(pattern.replace('@', theirs), name.replace('@', ours), blocks=blocks)
        for theirs, ours in names.items()
    )


HEAD = Rule(r'head\.(weight|bias)', r'head.fc.\1')
SKELETON = (
    same_rule(r'downsample_layers\..*'),
    same_rule(r'stages\.\d+\.\d+\.(?:gamma|norm\..*)'),
    Rule(r'norm\.(.*)', r'backbone.norm3.\1'),
    HEAD,
)
UNIREP = (
    *SKELETON,
    block_rule(r'se\.(?P<p>.*)', r'se.\g<p>'),
    block_rule(r'pwconv1\.1\.(?P<p>.*)', r'pointwise_conv1.\g<p>'),
    block_rule(r'act\.1\.(?P<p>gamma|beta)', r'grn.\g<p>', flat),
    block_rule(r'pwconv2\.0\.(?P<p>.*)', r'pointwise_conv2.\g<p>'),
    block_rule(r'pwconv2\.2\.(?P<p>.*)', r'out_norm.\g<p>'),
)
# InceptionNeXt's stages hold more than blocks.
meta_block_rule = partial(block_rule, blocks=r'blocks\.')
meta_branch_rules = partial(branch_rules, blocks=r'blocks\.')
# Besides its authors' layout of ConvNeXt, mmpretrain's is read, which differs in prefixes and in the names of a block's
# layers, and timm's, which has stages of more than blocks.
CONVNEXT = (
    Rule(r'stem\.(.*)', r'backbone.downsample_layers.0.\1'),
    Rule(r'stages\.(\d+)\.downsample\.(.*)', r'backbone.downsample_layers.\1.\2'),
    meta_block_rule(r'(?P<p>gamma|norm\..*)', r'\g<p>'),
    meta_block_rule(r'mlp\.fc(?P<n>[12])\.(?P<p>weight|bias)', r'pointwise_conv\g<n>.\g<p>', as_linear),
    meta_block_rule(r'mlp\.grn\.weight', 'grn.gamma'),
    meta_block_rule(r'mlp\.grn\.bias', 'grn.beta'),
    Rule(r'head\.norm\.(.*)', r'backbone.norm3.\1'),
    Rule(r'(?:backbone\.)?(stages\.\d+\.\d+\.grn\.(?:gamma|beta))', r'backbone.\1', flat),
    Rule(r'(?:backbone\.)?(downsample_layers\..*)', r'backbone.\1'),
    Rule(r'(?:backbone\.)?(stages\.\d+\.\d+\.(?:gamma|norm\..*))', r'backbone.\1'),
    Rule(r'(?:backbone\.)?(stages\.\d+\.\d+\.)(?:pw|pointwise_)conv([12]\..*)', r'backbone.\1pointwise_conv\2'),
    Rule(r'(?:backbone\.norm3|norm3?)\.(.*)', r'backbone.norm3.\1'),
    Rule(r'head\.(?:fc\.)?(weight|bias)', r'head.fc.\1'),
)
DEPTHWISE = r'(?:backbone\.)?stages\.(\d+)\.(?:blocks\.)?(\d+)\.(?:dwconv|depthwise_conv|conv_dw)\.'
