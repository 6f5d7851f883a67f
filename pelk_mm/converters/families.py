"""Layouts of the authors' checkpoints, as tables from their keys to those of the networks used here.

Keys of the target are those of mmpretrain's ``ImageClassifier``: ``backbone.``, ``neck.``, ``head.fc.``. The layouts
are facts of the authors' public code; ``docs/guide/weights.md`` names the repositories.
"""

from functools import partial
from math import isqrt
from typing import Any

from ..layers.mixers.shuffles import count_convolved
from ..models.unireplknet import planned_kernel_size
from .convnext_to_pelk import in_the_centre, silence_all_but_the_kernel
from .layouts import (
    CONVNEXT,
    DEPTHWISE,
    HEAD,
    SKELETON,
    UNIREP,
    Family,
    Found,
    block_rule,
    branch_rules,
    count_parts,
    meta_block_rule,
    meta_branch_rules,
    read_arch,
    read_outputs,
    same_rule,
    shape_of,
)
from .overlock_layout import OVERLOCK
from .rules import Rule, as_kernel, as_linear, by_channel, flat


def _read_convnext(found: Found) -> dict[str, Any]:
    first = found.get('backbone.stages.0.0.pointwise_conv1.weight')  # timm's small ones are 1 x 1 convolutions
    args = read_arch(found, axes=2 if first is None else len(first.shape))
    if 'backbone.stages.0.0.grn.gamma' in found:  # ConvNeXt V2
        args |= {'use_grn': True, 'layer_scale_init_value': 0.0}
    return args


def _read_shiftwise(found: Found) -> dict[str, Any]:
    filters = 'backbone.stages.0.0.mixer.weight'
    args = {**read_arch(found), 'small_kernel': shape_of(found, filters, 4)[-1]}
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
    return {**read_arch(found), 'kernel_sizes': sizes, 'small_kernel': shapes[0][3]}


def _read_unireplknet(found: Found) -> dict[str, Any]:
    args = read_arch(found)
    plan, sizes = [], []
    for stage, depth in enumerate(args['arch']['depths']):
        names = [f'backbone.stages.{stage}.{block}.mixer.weight' for block in range(depth)]
        sizes.append(tuple(shape_of(found, name, 4)[-1] for name in names))
        plan.append(tuple(planned_kernel_size(stage, block, depth) for block in range(depth)))
    return args if sizes == plan else {**args, 'kernel_sizes': tuple(sizes)}


def _read_wtconvnext(found: Found) -> dict[str, Any]:
    first = found.get('backbone.stages.0.0.pointwise_conv1.weight')
    args = read_arch(found, axes=2 if first is None else len(first.shape))
    blocks = [f'backbone.stages.{stage}.0.mixer.' for stage in range(4)]
    sizes = [shape_of(found, f'{block}weight', 4)[-1] for block in blocks]
    levels = tuple(sum(f'{block}level{level}_weight' in found for level in range(len(found))) for block in blocks)
    return {**args, 'kernel_size': sizes[0], 'wavelet_levels': levels}


def _read_wbmm(found: Found) -> dict[str, Any]:
    args = read_arch(found) | read_outputs(found)
    sizes, windows = [], []
    for stage, depth in enumerate(args['arch']['depths']):
        tables = [found.get(f'backbone.stages.{stage}.{block}.mixer.weight') for block in range(depth)]
        widths = [isqrt(table.shape[1]) for table in tables if table is not None and len(table.shape) == 2]
        windows.append(bool(widths))
        sizes.append((widths[0] + 1) // 2 if widths else None)
    known = {size for size in sizes if size is not None}
    if len(known) > 1:
        args['window_size'] = tuple(size or 7 for size in sizes)
    elif known:
        args['window_size'] = known.pop()
    parallel = tuple(k for k in (5, 3) if f'backbone.stages.3.0.mixer.parallel_weight_k{k}' in found)
    return {**args, 'parallel_kernels': parallel, 'windows_in_first_stage': windows[0]}


def _read_uniconvnet(found: Found) -> dict[str, Any]:
    args = read_arch(found)
    groups = shape_of(found, 'backbone.stages.0.0.deformable.mask.weight', 2)[0] // 9
    return {**args, 'group_width': args['arch']['channels'][0] // max(groups, 1)}


def _read_replknet(found: Found) -> dict[str, Any]:
    blocks = [f'backbone.stages.{stage}.blocks.0.' for stage in range(4)]
    kernels = [shape_of(found, f'{block}large_kernel.lkb_origin.conv.weight', 4) for block in blocks]
    channels = [shape_of(found, f'{block}prelkb_bn.weight', 1)[0] for block in blocks]
    small = f'{blocks[0]}large_kernel.small_conv.conv.weight'
    ratio = kernels[0][0] / channels[0]
    arch = {
        'large_kernel_sizes': [shape[-1] for shape in kernels],
        'layers': [count_parts(found, f'backbone.stages.{stage}.blocks.') // 2 for stage in range(4)],
        'channels': channels,
        'small_kernel': shape_of(found, small, 4)[-1] if small in found else None,
        'dw_ratio': int(ratio) if ratio == int(ratio) else ratio,
    }
    return {'arch': arch}


# The branches of the mixers, and the parts of UniConvNet's, by the authors' names.
_SHIFTWISE_BRANCHES = {'lora1': 'wide', 'lora2': 'tall', 'small': 'small'}
_SLAK_BRANCHES = {'(?:LoRA|Decom)1': 'tall', '(?:LoRA|Decom)2': 'wide', 'small_conv': 'small'}
_INCEPTION_BRANCHES = {'hw': 'square', 'w': 'wide', 'h': 'tall'}
_WBMM_NORMS = {'bn1': 'norm', 'bn2': 'parallel_norm_k5', 'bn3': 'parallel_norm_k3'}
_AGGREGATION_STEPS = {
    f'{theirs.replace("#", str(step))}': f'steps.{step - 1}.{ours}'
    for step in (1, 2, 3)
    for theirs, ours in {
        r'a#\.0': 'context_in',
        r'a#\.2': 'context',
        'v#': 'value',
        'v#1': 'product',
        'v#2': 'fresh_in',
        'conv3_#': 'fresh',
        'proj#': 'context_out',
    }.items()
}
_UNICONV_PARTS = {
    'layer_scale': 'gamma',
    'gamma1': 'deformable_gamma',
    'gamma2': 'mlp_gamma',
    **{f'attn\\.norm{step}': f'mixer.norms.{step - 1}' for step in (1, 2, 3)},
    **{f'attn\\.{theirs}': f'mixer.{ours}' for theirs, ours in _AGGREGATION_STEPS.items()},
    r'norm1\.0': 'deformable_norm',
    r'norm2\.0': 'norm',
    r'dcn\.dw_conv\.0': 'deformable.dw_conv',
    **{rf'dcn\.{name}': f'deformable.{name}' for name in ('offset', 'mask', 'input_proj', 'output_proj')},
    **{rf'mlp\.fc{n}': f'pointwise_conv{n}' for n in (1, 2)},
}
# What the modules of fast_wtconv call the parts of a wavelet convolution, beside the first ones.
_WAVELET_PARTS = {
    r'base_conv\.weight|base_weight': ('weight', None),
    r'base_conv\.bias|base_bias': ('bias', None),
    r'base_scale(?:\.weight)?': ('scale', flat),
}
FAMILIES = {
    'shiftwise': Family(
        'pelk_mm.ShiftWiseNet',
        (
            *UNIREP,
            block_rule(r'large_kernel\.LoRA(?:s\.\d+)?\.weight', 'mixer.weight', by_channel, stack=True),
            *branch_rules(r'large_kernel\.bn_@\.(?P<p>.*)', r'mixer.@_norm.\g<p>', _SHIFTWISE_BRANCHES),
        ),
        _read_shiftwise,
        unseen=('kernel_sizes', 'edges'),
        own=r'backbone\.stages\..*\.mixer\.(rep_channels|ghost_channels|horizontal|vertical|identity)',
    ),
    'slak': Family(
        'pelk_mm.SLaK',
        (
            *SKELETON,
            block_rule(r'pwconv(?P<n>[12])\.(?P<p>weight|bias)', r'pointwise_conv\g<n>.\g<p>'),
            *branch_rules(r'large_kernel\.@\.conv\.weight', 'mixer.@_weight', _SLAK_BRANCHES),
            *branch_rules(r'large_kernel\.@\.bn\.(?P<p>.*)', r'mixer.@_norm.\g<p>', _SLAK_BRANCHES),
        ),
        _read_slak,
        width_factor=1.3,
    ),
    'unireplknet': Family(
        'pelk_mm.UniRepLKNet',
        (
            *UNIREP,
            block_rule(r'dwconv\.(?:lk_origin\.)?weight', 'mixer.weight'),
            block_rule(r'dwconv\.origin_bn\.(?P<p>.*)', r'mixer.norm.\g<p>'),
            block_rule(r'dwconv\.dil_conv_k(?P<k>\d+)_(?P<r>\d+)\.weight', r'mixer.dilated_weight_k\g<k>_r\g<r>'),
            block_rule(r'dwconv\.dil_bn_k(?P<k>\d+)_(?P<r>\d+)\.(?P<p>.*)', r'mixer.dilated_norm_k\g<k>_r\g<r>.\g<p>'),
        ),
        _read_unireplknet,
    ),
    'wtconvnext': Family(
        'pelk_mm.WTConvNeXt',
        (
            *CONVNEXT,
            *(
                Rule(rf'{DEPTHWISE}(?:{theirs})', rf'backbone.stages.\1.\2.mixer.{ours}', transform)
                for theirs, (ours, transform) in _WAVELET_PARTS.items()
            ),
            Rule(
                rf'{DEPTHWISE}(?:wavelet_convs\.(\d+)\.weight|wt_weights\.(\d+))',
                r'backbone.stages.\1.\2.mixer.level\3\4_weight',
            ),
            Rule(
                rf'{DEPTHWISE}(?:wavelet_scale\.(\d+)\.weight|wt_scales\.(\d+))',
                r'backbone.stages.\1.\2.mixer.level\3\4_scale',
                flat,
            ),
        ),
        _read_wtconvnext,
        left_out=r'.*\.i?wt_filter',
    ),
    'wbmm': Family(
        'pelk_mm.WBMMNet',
        (
            *UNIREP,
            same_rule(r'norm[0-3]\..*'),
            block_rule(r'dwconv\.(?:relative_position_bias_table|weight)', 'mixer.weight', as_kernel),
            block_rule(r'dwconv\.dwconv(?P<k>\d+)\.weight', r'mixer.parallel_weight_k\g<k>'),
            *branch_rules(r'dwconv\.@\.(?P<p>.*)', r'mixer.@.\g<p>', _WBMM_NORMS),
        ),
        _read_wbmm,
        left_out=r'.*\.relative_position_index',
        dense=True,
    ),
    'overlock': OVERLOCK,
    'uniconvnet': Family(
        'pelk_mm.UniConvNet',
        (
            same_rule(r'downsample_layers\..*'),
            Rule(r'norm\.(.*)', r'backbone.norm3.\1'),
            HEAD,
            *branch_rules(r'@(?P<p>\.weight|\.bias|)', r'@\g<p>', _UNICONV_PARTS),
        ),
        _read_uniconvnet,
    ),
    'inceptionnext': Family(
        'pelk_mm.InceptionNeXt',
        (
            Rule(r'stem\.(.*)', r'backbone.downsample_layers.0.\1'),
            Rule(r'stages\.(\d+)\.downsample\.(.*)', r'backbone.downsample_layers.\1.\2'),
            meta_block_rule(r'(?P<p>gamma|norm\..*)', r'\g<p>'),
            *meta_branch_rules(r'token_mixer\.dwconv_@\.(?P<p>weight|bias)', r'mixer.@_\g<p>', _INCEPTION_BRANCHES),
            meta_block_rule(r'mlp\.fc(?P<n>[12])\.(?P<p>weight|bias)', r'pointwise_conv\g<n>.\g<p>', as_linear),
            Rule(r'head\.fc1\.(.*)', r'neck.fc.\1'),
            Rule(r'head\.norm\.(.*)', r'neck.norm.\1'),
            Rule(r'head\.fc2\.(.*)', r'head.fc.\1'),
        ),
        partial(read_arch, axes=4),
        neck='pelk_mm.MlpNeck',
    ),
    'replknet': Family(
        'mmpretrain.RepLKNet',
        (
            same_rule(r'(?:stem|stages|transitions)\..*'),
            Rule(r'norm\.(.*)', r'backbone.stages.3.norm.\1'),
            HEAD,
        ),
        _read_replknet,
        neck='GlobalAveragePooling',
    ),
    'convnext': Family(
        'mmpretrain.ConvNeXt',
        (*CONVNEXT, Rule(rf'{DEPTHWISE}(.*)', r'backbone.stages.\1.\2.depthwise_conv.\3')),
        _read_convnext,
    ),
    'convnext-to-pelk': Family(
        'pelk_mm.PeLK',
        (
            *CONVNEXT,
            Rule(rf'{DEPTHWISE}weight', r'backbone.stages.\1.\2.mixer.w_theta', in_the_centre),
            Rule(rf'{DEPTHWISE}bias', r'backbone.stages.\1.\2.mixer.norm.bias'),
        ),
        _read_convnext,
        args={'width_factor': 1.0, 'conv_ratio': 1.0, 'central_size': 7},
        own=r'backbone\.(pos_embeds\..*|stages\..*\.mixer\.(small_.*|norm\.(weight|running_mean|running_var)))',
        prepare=silence_all_but_the_kernel,
    ),
}
