"""The paper's rows of parameters and FLOPs, and the table that sets our counts beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .complexity import Complexity

SPARSITY = 0.4
#: What the paper gives for Cascade Mask R-CNN with ConvNeXt-T, in G: its detectors are compared as differences to it.
CONVNEXT_T_GMACS = 741.0


@dataclass(frozen=True)
class PublishedRow:
    """A row of the paper's tables.

    Attributes:
        name: The model.
        config: Its file in ``configs/``, without the suffix.
        shape: (H, W) of the image that it is counted on.
        params: As printed, in millions.
        gmacs: FLOPs as printed, in billions of multiply-adds.
    """

    name: str
    config: str
    shape: tuple[int, int]
    params: float
    gmacs: float


IMAGENET, ADE20K, COCO = (224, 224), (512, 2048), (800, 1280)
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
)


def render_table(counts: Mapping[str, Complexity], convnext: Complexity) -> str:
    """Markdown: one line a row, the paper's figures beside ours.

    Args:
        counts: By ``config``, the counts of every row at :data:`SPARSITY`.
        convnext: Cascade Mask R-CNN with ConvNeXt-T by the same convention, dense.

    Raises:
        KeyError: A row was not counted.
    """
    lines = [
        '| model | image | parameters: paper | ours | FLOPs: paper | ours | | over ConvNeXt-T: paper | ours |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for row in ROWS:
        counted = counts[row.config]
        gmacs = counted.macs / 1e9
        paper = f'{row.gmacs:g}' if row.gmacs >= 100 else f'{row.gmacs:.1f}'
        ours = f'{gmacs:.1f}' if row.gmacs >= 100 else f'{gmacs:.2f}'
        over = (
            f'+{row.gmacs - CONVNEXT_T_GMACS:g} G | +{(counted.macs - convnext.macs) / 1e9:.1f} G'
            if row.shape == COCO
            else '|'
        )
        lines.append(
            f'| {row.name} | {row.shape[0]}x{row.shape[1]} | {row.params:g} M | {counted.params_nonzero / 1e6:.2f} M '
            f'| {paper} G | {ours} G | {100 * (gmacs / row.gmacs - 1):+.1f} % | {over} |'
        )
    gmacs = convnext.macs / 1e9
    lines.append(
        f'| Cascade Mask R-CNN ConvNeXt-T, dense | {COCO[0]}x{COCO[1]} | | {convnext.params / 1e6:.2f} M '
        f'| {CONVNEXT_T_GMACS:g} G | {gmacs:.1f} G | {100 * (gmacs / CONVNEXT_T_GMACS - 1):+.1f} % | | |'
    )
    return '\n'.join(lines)
