"""The authors' layout of OverLoCK: classifiers, and the backbones of segmentors and detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .layouts import Family, Found, count_parts, read_outputs, shape_of
from .rules import Rule, Transform, as_linear, flat


def read_overlock(found: Found) -> dict[str, Any]:
    """Arguments of :class:`~pelk_mm.models.OverLoCK`."""
    depths = tuple(count_parts(found, f'backbone.stages.{stage}.') for stage in range(4))
    blocks = [f'backbone.stages.{stage}.0.' for stage in range(4)]
    channels = tuple(shape_of(found, f'{block}local.weight', 4)[0] for block in blocks)
    tables = [f'backbone.focus_stages.{stage}.0.contmix.' for stage in range(2)]
    args = {
        'arch': {'depths': depths, 'channels': channels},
        'focus_depths': tuple(count_parts(found, f'backbone.focus_stages.{stage}.') for stage in range(2)),
        'focus_heads': tuple(shape_of(found, f'{table}large_bias', 3)[0] for table in tables),
        'kernel_sizes': tuple(shape_of(found, f'{block}mixer.weight', 4)[-1] for block in blocks),
        'small_kernel': (shape_of(found, f'{tables[0]}small_bias', 3)[-1] + 1) // 2,
    }
    outputs = read_outputs(found)
    if outputs:
        context = 'backbone.context_output.0.weight' in found
        norms = {'output_norm_cfg': {'type': 'LN2d', 'eps': 1e-6}, 'normed_trunk': True, 'context_output': context}
        return args | outputs | norms
    return {**args, 'gap_before_final_norm': False, 'overview_output': True}


def _places(theirs: str, ours: str, first: int, stages: int) -> dict[str, str]:
    """Their blocks ``theirs``, counted from ``first``, as ours, counted from 0: prefixes by patterns."""
    return {rf'{theirs}{first + i}\.(?P<b>\d+)\.': rf'backbone.{ours}.{i}.\g<b>.' for i in range(stages)}


def _rules(places: Mapping[str, str], names: Mapping[str, str], transform: Transform | None = None) -> tuple[Rule, ...]:
    """A rule for each place and name, theirs and ours; whatever follows the name stays."""
    return tuple(
        Rule(rf'{place}{theirs}\.(?P<p>.*)', rf'{prefix}{ours}.\g<p>', transform)
        for place, prefix in places.items()
        for theirs, ours in names.items()
    )


def _reparam(places: Mapping[str, str], theirs: str) -> tuple[Rule, ...]:
    """The re-parameterised kernel, ``mixer`` here."""
    size = r'k(?P<k>\d+)_(?P<r>\d+)'
    ours = {
        r'lk_origin': 'mixer',
        r'origin_bn': 'mixer.norm',
        rf'dil_bn_{size}': r'mixer.dilated_norm_k\g<k>_r\g<r>',
    }
    kernels = tuple(
        Rule(rf'{place}{theirs}\.dil_conv_{size}\.weight', rf'{prefix}mixer.dilated_weight_k\g<k>_r\g<r>')
        for place, prefix in places.items()
    )
    return (*kernels, *_rules(places, {rf'{theirs}\.{name}': value for name, value in ours.items()}))


_FIRST_LOOK = _places('blocks', 'stages', 1, 4)
_SECOND_LOOK = _places('sub_blocks', 'focus_stages', 3, 2)
_STEM = {rf'patch_embed{i + 1}\.': f'backbone.downsample_layers.{i}.' for i in range(4)}
_NORMS = {rf'extra_norm\.{i}': f'norm{i}' for i in range(4)}
_HERE = {'': 'backbone.'}

OVERLOCK = Family(
    'pelk_mm.OverLoCK',
    (
        *(Rule(f'{theirs}(.*)', rf'{ours}\1') for theirs, ours in _STEM.items()),
        *_reparam(_FIRST_LOOK, r'proj\.1'),
        *_rules(
            _FIRST_LOOK,
            {
                'dwconv': 'local',
                r'proj\.0': 'norm',
                r'proj\.2': 'mixer_norm',
                r'proj\.3\.proj\.1': 'se.down',
                r'proj\.3\.proj\.3': 'se.up',
                r'proj\.4': 'mlp.pointwise_conv1',
                r'proj\.6': 'mlp.depthwise_conv',
                r'proj\.8': 'mlp.pointwise_conv2',
            },
        ),
        *_rules(_FIRST_LOOK, {r'proj\.7': 'mlp.grn', 'ls': 'residual'}, flat),
        *_reparam(_SECOND_LOOK, r'lepe\.0'),
        *_rules(
            _SECOND_LOOK,
            {
                'dwconv1': 'local1',
                'dwconv2': 'local2',
                'norm1': 'norm1',
                'norm2': 'norm2',
                **{rf'fusion\.{i}': f'fusion.{i}' for i in (0, 1, 3)},
                r'weight_query\.0': 'contmix.query',
                r'weight_query\.1': 'contmix.query_norm',
                r'weight_key\.1': 'contmix.key',
                r'weight_key\.2': 'contmix.key_norm',
                r'dyconv_proj\.0': 'contmix_out',
                r'dyconv_proj\.1': 'contmix_norm',
                r'lepe\.1': 'mixer_norm',
                r'se_layer\.proj\.1': 'se.down',
                r'se_layer\.proj\.3': 'se.up',
                r'gate\.0': 'gate',
                r'gate\.1': 'gate_norm',
                r'proj\.0': 'out_norm',
                r'proj\.1': 'out',
                r'mlp\.0': 'mlp.pointwise_conv1',
                r'mlp\.2': 'mlp.depthwise_conv',
                r'mlp\.4': 'mlp.pointwise_conv2',
            },
        ),
        *_rules(
            _SECOND_LOOK,
            {
                r'fusion\.4': 'fusion_grn',
                r'mlp\.3': 'mlp.grn',
                'x_scale': 'context_scale',
                'h_scale': 'overview_scale',
                'ls1': 'residual1',
                'ls2': 'residual2',
            },
            flat,
        ),
        *_rules(_SECOND_LOOK, {'weight_proj': 'contmix.weight_proj'}, as_linear),
        *(
            Rule(f'{place}rpb{i}', f'{prefix}contmix.{name}_bias')
            for place, prefix in _SECOND_LOOK.items()
            for i, name in ((1, 'small'), (2, 'large'))
        ),
        *_rules(_HERE, {'high_level_proj': 'overview_proj', **_NORMS}),
        *_rules(_HERE, {rf'patch_embedx\.{name}_proj': f'focus_downsample.{i}' for i, name in enumerate('xh')}),
        *_rules(_HERE, {r'extra_norm\.4': 'context_output.0', r'h_proj\.0': 'context_output.1'}),
        *_rules(_HERE, {r'h_proj\.1': 'context_output.2'}, flat),
        *_rules({'': 'head.'}, {r'head\.0': 'projection', r'head\.1': 'norm', r'aux_head\.0': 'overview_norm'}),
        *_rules({'': 'head.'}, {r'head\.4': 'fc', r'aux_head\.2': 'overview_fc'}, as_linear),
    ),
    read_overlock,
    head='pelk_mm.OverLoCKHead',
    dense=True,
)
