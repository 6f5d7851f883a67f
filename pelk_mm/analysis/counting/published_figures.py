"""Published rows of parameters and FLOPs: which model, which config, which figures, and of which form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SPARSITY = 0.4
#: What the PeLK paper gives for Cascade Mask R-CNN with ConvNeXt-T, in G: its detectors are compared as differences.
CONVNEXT_T_GMACS = 741.0

#: The form of a net that published figures describe, and what the table says of it.
Form = Literal['pelk', 'slak', 'dense', 'merged', 'deployed']
FORMS: Mapping[Form, str] = {
    'pelk': '40 % zeros, without h and 5x5',
    'slak': '40 % zeros',
    'dense': 'as trained',
    'merged': 'paths merged',
    'deployed': 'deployed',
}
#: OverLoCK without what only training needs: the auxiliary classifier on its overview, which no figure counts.
WITHOUT_OVERVIEW: Mapping[str, Any] = {'model.backbone.overview_output': False, 'model.head.overview_channels': None}


@dataclass(frozen=True)
class PublishedRow:
    """A row of somebody's table.

    Attributes:
        name: The model.
        config: Its file in ``configs/``, without the suffix.
        shape: (H, W) of the image that it is counted on.
        params: As printed, in millions.
        gmacs: FLOPs as printed, in billions of multiply-adds.
        source: Where it is printed: 'paper', the 'README' of the authors' code, or 'note', a third party's reading
            note of the paper.
        form: What the figures describe: the net with 40 % of the weights of backbone and classifier at zero, by the
            PeLK paper's convention ('pelk') or with every parameter of several dimensions sparse ('slak'); dense as
            trained; dense with SW's rep paths merged; or deployed.
        overrides: What differs from the config, by dotted names.
    """

    name: str
    config: str
    shape: tuple[int, int]
    params: float
    gmacs: float
    source: Literal['paper', 'README', 'note'] = 'paper'
    form: Form = 'pelk'
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def as_configured(self) -> bool:
        """Whether the row is of the config's own network, with or without its auxiliary classifier."""
        return set(self.overrides) <= set(WITHOUT_OVERVIEW)


def as_printed(gmacs: float) -> str:
    """FLOPs with all their digits, below 100 with one behind the point at least."""
    return f'{gmacs:.1f}' if gmacs < 100 and gmacs == round(gmacs, 1) else f'{gmacs:g}'


def _classifier(arch: str, channels: int) -> dict[str, Any]:
    return {'model.backbone.arch': arch, 'model.head.in_channels': channels}


def _inception(arch: str, channels: int) -> dict[str, Any]:
    return {**_classifier(arch, 3 * channels), 'model.neck.in_channels': channels}


def _overlock(arch: str, channels: int) -> dict[str, Any]:
    return {**_classifier(arch, channels), **WITHOUT_OVERVIEW}


def _upernet_widths(*channels: int) -> dict[str, Any]:
    return {'model.decode_head.in_channels': list(channels), 'model.auxiliary_head.in_channels': channels[2]}


IMAGENET, ADE20K, COCO = (224, 224), (512, 2048), (800, 1280)
_SMALL, _BASE = ({'model.backbone.arch': arch} for arch in ('small', 'base'))
ROWS = (
    PublishedRow('PeLK-T', 'pelk_t_imagenet', IMAGENET, 29, 5.6),
    PublishedRow('PeLK-S', 'pelk_s_imagenet', IMAGENET, 50, 10.7),
    PublishedRow('PeLK-B', 'pelk_b_imagenet', IMAGENET, 89, 18.3),
    PublishedRow('PeLK-B, 384', 'pelk_b_imagenet_384', (384, 384), 89, 54.0),
    PublishedRow('PeLK-B-101, 384', 'pelk_b_101_imagenet_384', (384, 384), 90, 68.3),
    PublishedRow('UperNet PeLK-T', 'upernet_pelk_t_ade20k', ADE20K, 62, 970),
    PublishedRow('UperNet PeLK-S', 'upernet_pelk_s_ade20k', ADE20K, 84, 1077),
    PublishedRow('UperNet PeLK-B', 'upernet_pelk_b_ade20k', ADE20K, 126, 1237),
    PublishedRow('UperNet PeLK-B-101', 'upernet_pelk_b_101_ade20k', ADE20K, 126, 1339),
    PublishedRow('Cascade Mask R-CNN PeLK-T', 'cascade_mask_rcnn_pelk_t_coco', COCO, 86, 770),
    PublishedRow('Cascade Mask R-CNN PeLK-S', 'cascade_mask_rcnn_pelk_s_coco', COCO, 108, 874),
    PublishedRow('Cascade Mask R-CNN PeLK-B', 'cascade_mask_rcnn_pelk_b_coco', COCO, 147, 1028),
    PublishedRow('Cascade Mask R-CNN PeLK-B-101', 'cascade_mask_rcnn_pelk_b_101_coco', COCO, 147, 1127),
    PublishedRow('SW-T', 'sw_t_imagenet', IMAGENET, 31, 5.0, 'note', 'merged'),
    PublishedRow('SW-S', 'sw_s_imagenet', IMAGENET, 56, 9.4, 'note', 'merged'),
    PublishedRow('UperNet SW-T', 'upernet_sw_t_ade20k', ADE20K, 61.73, 948.12, 'README', 'merged'),
    PublishedRow('UperNet SW-S', 'upernet_sw_s_ade20k', ADE20K, 87.5, 1039.21, 'README', 'merged'),
    PublishedRow('Cascade Mask R-CNN SW-T', 'cascade_mask_rcnn_sw_t_coco', COCO, 86.89, 751.21, 'README', 'merged'),
    PublishedRow('Cascade Mask R-CNN SW-S', 'cascade_mask_rcnn_sw_s_coco', COCO, 110.48, 839.27, 'README', 'merged'),
    PublishedRow('SLaK-T', 'slak_t_imagenet', IMAGENET, 30, 5.0, 'README', 'slak'),
    PublishedRow('SLaK-S', 'slak_t_imagenet', IMAGENET, 55, 9.8, 'README', 'slak', _SMALL),
    PublishedRow('SLaK-B', 'slak_t_imagenet', IMAGENET, 95, 17.1, 'README', 'slak', _classifier('base', 1331)),
    PublishedRow('UperNet SLaK-T', 'upernet_slak_t_ade20k', ADE20K, 65, 936, 'README', 'slak'),
    PublishedRow('UperNet SLaK-S', 'upernet_slak_t_ade20k', ADE20K, 91, 1028, 'README', 'slak', _SMALL),
    PublishedRow(
        'UperNet SLaK-B',
        'upernet_slak_t_ade20k',
        ADE20K,
        135,
        1172,
        'README',
        'slak',
        {**_BASE, **_upernet_widths(166, 332, 665, 1331)},
    ),
    PublishedRow(
        'UniRepLKNet-A', 'unireplknet_t_imagenet', IMAGENET, 4.4, 0.6, 'README', 'deployed', _classifier('atto', 320)
    ),
    PublishedRow(
        'UniRepLKNet-F', 'unireplknet_t_imagenet', IMAGENET, 6.2, 0.9, 'README', 'deployed', _classifier('femto', 384)
    ),
    PublishedRow(
        'UniRepLKNet-P', 'unireplknet_t_imagenet', IMAGENET, 10.7, 1.6, 'README', 'deployed', _classifier('pico', 512)
    ),
    PublishedRow(
        'UniRepLKNet-N', 'unireplknet_t_imagenet', IMAGENET, 18.3, 2.8, 'README', 'deployed', _classifier('nano', 640)
    ),
    PublishedRow('UniRepLKNet-T', 'unireplknet_t_imagenet', IMAGENET, 31.0, 4.9, 'README', 'deployed'),
    PublishedRow(
        'UniRepLKNet-S', 'unireplknet_t_imagenet', IMAGENET, 55.6, 9.1, 'README', 'deployed', _classifier('small', 768)
    ),
    PublishedRow('UperNet UniRepLKNet-T', 'upernet_unireplknet_t_ade20k', ADE20K, 61, 946, 'README', 'deployed'),
    PublishedRow(
        'UperNet UniRepLKNet-S',
        'upernet_unireplknet_t_ade20k',
        ADE20K,
        86,
        1036,
        'README',
        'deployed',
        {**_SMALL, **_upernet_widths(96, 192, 384, 768)},
    ),
    PublishedRow(
        'Cascade Mask R-CNN UniRepLKNet-T',
        'cascade_mask_rcnn_unireplknet_t_coco',
        COCO,
        89,
        749,
        'README',
        'deployed',
    ),
    PublishedRow(
        'Cascade Mask R-CNN UniRepLKNet-S',
        'cascade_mask_rcnn_unireplknet_t_coco',
        COCO,
        113,
        835,
        'README',
        'deployed',
        {**_SMALL, 'model.neck.in_channels': [96, 192, 384, 768]},
    ),
    PublishedRow('InceptionNeXt-T', 'inceptionnext_t_imagenet', IMAGENET, 28, 4.2, 'README', 'dense'),
    PublishedRow(
        'InceptionNeXt-S', 'inceptionnext_t_imagenet', IMAGENET, 49, 8.4, 'README', 'dense', _inception('small', 768)
    ),
    PublishedRow(
        'InceptionNeXt-B', 'inceptionnext_t_imagenet', IMAGENET, 87, 14.9, 'README', 'dense', _inception('base', 1024)
    ),
    PublishedRow('WTConvNeXt-T', 'wtconvnext_t_imagenet', IMAGENET, 30, 4.5, 'README', 'dense'),
    PublishedRow('WTConvNeXt-S', 'wtconvnext_t_imagenet', IMAGENET, 54, 8.8, 'README', 'dense', _SMALL),
    PublishedRow('WBMM-N', 'wbmm_t_imagenet', IMAGENET, 18.1, 2.7, 'README', 'dense', _classifier('nano', 640)),
    PublishedRow('WBMM-T', 'wbmm_t_imagenet', IMAGENET, 31.0, 4.8, 'README', 'dense'),
    PublishedRow('WBMM-S', 'wbmm_t_imagenet', IMAGENET, 55.6, 9.0, 'README', 'dense', _classifier('small', 768)),
    PublishedRow('UperNet WBMM-T', 'upernet_wbmm_t_ade20k', ADE20K, 62, 944, 'README', 'dense'),
    PublishedRow(
        'UperNet WBMM-S',
        'upernet_wbmm_t_ade20k',
        ADE20K,
        87,
        1033,
        'README',
        'dense',
        {**_SMALL, **_upernet_widths(96, 192, 384, 768)},
    ),
    PublishedRow('Cascade Mask R-CNN WBMM-T', 'cascade_mask_rcnn_wbmm_t_coco', COCO, 89, 747, 'README', 'dense'),
    PublishedRow(
        'Cascade Mask R-CNN WBMM-S',
        'cascade_mask_rcnn_wbmm_t_coco',
        COCO,
        113,
        833,
        'README',
        'dense',
        {**_SMALL, 'model.neck.in_channels': [96, 192, 384, 768]},
    ),
    PublishedRow('OverLoCK-T', 'overlock_t_imagenet', IMAGENET, 33, 5.5, 'README', 'deployed', WITHOUT_OVERVIEW),
    PublishedRow('OverLoCK-B', 'overlock_t_imagenet', IMAGENET, 95, 16.7, 'README', 'deployed', _overlock('base', 720)),
    PublishedRow(
        'UniConvNet-A', 'uniconvnet_t_imagenet', IMAGENET, 3.4, 0.589, 'README', 'dense', _classifier('atto', 192)
    ),
    PublishedRow(
        'UniConvNet-P1', 'uniconvnet_t_imagenet', IMAGENET, 6.1, 0.895, 'README', 'dense', _classifier('pico1', 256)
    ),
    PublishedRow(
        'UniConvNet-P2', 'uniconvnet_t_imagenet', IMAGENET, 7.6, 1.25, 'README', 'dense', _classifier('pico2', 256)
    ),
    PublishedRow(
        'UniConvNet-N0', 'uniconvnet_t_imagenet', IMAGENET, 10.2, 1.65, 'README', 'dense', _classifier('nano0', 384)
    ),
    PublishedRow(
        'UniConvNet-N1', 'uniconvnet_t_imagenet', IMAGENET, 13.1, 1.88, 'README', 'dense', _classifier('nano1', 384)
    ),
    PublishedRow(
        'UniConvNet-N2', 'uniconvnet_t_imagenet', IMAGENET, 15.0, 2.47, 'README', 'dense', _classifier('nano2', 384)
    ),
    PublishedRow(
        'UniConvNet-N3', 'uniconvnet_t_imagenet', IMAGENET, 19.7, 3.37, 'README', 'dense', _classifier('nano3', 384)
    ),
    PublishedRow('UniConvNet-T', 'uniconvnet_t_imagenet', IMAGENET, 30.3, 5.1, 'README', 'dense'),
    PublishedRow(
        'UniConvNet-S', 'uniconvnet_t_imagenet', IMAGENET, 50.0, 8.48, 'README', 'dense', _classifier('small', 640)
    ),
    PublishedRow(
        'UniConvNet-B', 'uniconvnet_t_imagenet', IMAGENET, 97.6, 15.9, 'README', 'dense', _classifier('base', 896)
    ),
)
