"""The forward pass that is counted: backbone, neck and heads of one image, without post-processing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

#: How many proposals of an image go through the box heads and how many of them through the mask heads, in every stage:
#: the convention by which Swin, ConvNeXt and the papers after them count Mask R-CNN and Cascade Mask R-CNN.
BOX_ROIS = 1000
MASK_ROIS = 100

_KINDS = {
    'mmpretrain.BaseClassifier': 'classifier',
    'mmseg.BaseSegmentor': 'segmentor',
    'mmdet.BaseDetector': 'detector',
}


def kind_of(model: nn.Module) -> str | None:
    """'classifier', 'segmentor' or 'detector' by the toolbox's base class of ``model``; None for anything else."""
    for base in type(model).__mro__:
        kind = _KINDS.get(f'{base.__module__.partition(".")[0]}.{base.__name__}')
        if kind is not None:
            return kind
    return None


def tensor_forward(model: nn.Module, image: Tensor) -> None:
    """Run the parts of a model whose work does not depend on what the image shows; for counting, on the meta device.

    Classifiers and segmentors run in their 'tensor' mode, which leaves auxiliary heads out, and so do one-stage
    detectors. In a two-stage detector 1000 made-up proposals go through every box head and 100 through every mask
    head; RoI features come without computing, as mmengine counts no RoIAlign either.

    Args:
        model: Classifier, segmentor or detector, in evaluation mode.
        image: (1, channels, H, W).

    Raises:
        ValueError: ``model`` is none of the three, or a two-stage detector of another kind than Faster, Mask or Cascade
            R-CNN.
    """
    kind = kind_of(model)
    if kind is None:
        raise ValueError(
            f'model must be a classifier (mmpretrain), segmentor (mmseg) or detector (mmdet), '
            f'but got {type(model).__name__}'
        )
    if kind != 'detector':
        model(image, mode='tensor')
    elif hasattr(model, 'roi_head'):
        with _roi_features_by_shape(model):
            _two_stage_forward(model, image)
    else:
        model(image, [_data_sample(image)], mode='tensor')


def _data_sample(image: Tensor) -> Any:
    from mmdet.structures import DetDataSample

    size = (image.shape[2], image.shape[3])
    return DetDataSample(
        metainfo={'img_shape': size, 'ori_shape': size, 'pad_shape': size, 'batch_input_shape': size, 'scale_factor': 1}
    )


def _two_stage_forward(model: Any, image: Tensor) -> None:
    from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead

    head = model.roi_head
    if type(head) not in (CascadeRoIHead, StandardRoIHead):
        raise ValueError(
            f'roi_head must be a StandardRoIHead or CascadeRoIHead to be counted, but got {type(head).__name__}'
        )
    features = model.extract_feat(image)
    if model.with_rpn:
        model.rpn_head(features)
    rois = image.new_zeros(BOX_ROIS, 5)
    for stage in range(head.num_stages) if isinstance(head, CascadeRoIHead) else [None]:
        where = () if stage is None else (stage,)
        if head.with_bbox:
            head._bbox_forward(*where, features, rois)
        if head.with_mask:
            head._mask_forward(*where, features, rois[:MASK_ROIS])


@contextmanager
def _roi_features_by_shape(model: nn.Module) -> Iterator[None]:
    """Let RoI extractors give features of the right shape: which level a box belongs to depends on its values."""
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    def forward(self: Any, feats: Any, rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        return feats[0].new_zeros(rois.shape[0], self.out_channels, *self.roi_layers[0].output_size)

    extractors = [module for module in model.modules() if type(module) is SingleRoIExtractor]
    try:
        for extractor in extractors:
            extractor.forward = forward.__get__(extractor)
        yield
    finally:
        for extractor in extractors:
            del extractor.forward
