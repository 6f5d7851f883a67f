"""A backbone of this package with what timm expects of a model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import accumulate
from operator import mul
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..layers.together import keep_together
from ..models import LargeKernelBackbone, MlpNeck
from ..models.skeleton import MIN_IMAGE_SIZE
from ..utils.checks import check_flag, check_int, check_number
from .timm_head import POOLS, Head

STAGES = 4
#: timm's total stride -> the backbone's stride before each stage.
STRIDES = {8: (4, 2, 1, 1), 16: (4, 2, 2, 1), 32: (4, 2, 2, 2)}
#: Arguments of the backbone that the model gives itself, and what to write instead.
REFUSED = {
    'in_channels': 'write in_chans',
    'out_indices': 'it needs features_only=True',
    'gap_before_final_norm': "write global_pool='' for maps",
    'strides': 'write output_stride, 8, 16 or 32',
    'init_cfg': "write pretrained=True, pretrained_cfg_overlay=dict(file='...')",
}


class TimmModel(nn.Module):
    """A backbone, a pool, its last norm and a linear classifier: ConvNeXt's head, in timm's terms.

    The state dict is that of mmpretrain's ``ImageClassifier`` around the same backbone: ``backbone.*``, ``head.fc.*``
    and, for InceptionNeXt, ``neck.*``. Checkpoints go both ways as they are. One of a bare backbone, without
    ``backbone.`` in its names, is taken too: :func:`pelk_mm.hub.timm_weights.fit_state_dict`.

    Features are the stages' raw outputs, as those of timm's ConvNeXt: a classifier has no norm for the first three.

    Args:
        backbone: Class of the backbone.
        in_chans: Channels of the image.
        num_classes: Rows of the classifier; 0 for none.
        global_pool: 'avg', 'max', 'avgmax'; or '' for none: then norm and classifier meet every pixel.
        output_stride: 32, 16 or 8. Below 32 the last stages keep the size of the map, and kernels their size in pixels.
        drop_rate: Dropout before the classifier.
        output_norms: Give the backbone a norm for each stage, and return normed features: those of the class with
            ``out_indices=(0, 1, 2, 3), gap_before_final_norm=False``, for checkpoints of segmentors and detectors.
        mlp_neck: Put :class:`MlpNeck` before the classifier, as InceptionNeXt's authors do.
        device, dtype: Of parameters and buffers.
        **kwargs: Every other argument of the backbone, ``drop_path_rate`` and ``arch`` among them.

    Attributes:
        num_features: Channels of :meth:`forward_features`.
        head_hidden_size: Channels before the classifier.
        feature_info: For each stage a dict of ``num_chs``, ``reduction`` (its stride) and ``module``.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    def __init__(
        self,
        backbone: type[LargeKernelBackbone],
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        output_stride: int = 32,
        drop_rate: float = 0.0,
        output_norms: bool = False,
        mlp_neck: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        for name, instead in REFUSED.items():
            if name in kwargs:
                raise TypeError(f'a timm model takes no argument {name!r}: {instead}')
        check_int('in_chans', in_chans, 1)
        check_number('drop_rate', drop_rate, 0, 1)
        check_flag('output_norms', output_norms)
        check_flag('mlp_neck', mlp_neck)
        if output_stride not in STRIDES:
            raise ValueError(f'output_stride must be one of {", ".join(map(str, STRIDES))}, but got {output_stride!r}')
        self.in_chans = in_chans
        self.output_norms = output_norms
        with nullcontext() if device is None else torch.device(device):
            self.backbone = backbone(
                in_channels=in_chans,
                strides=STRIDES[output_stride],
                out_indices=tuple(range(STAGES)) if output_norms else STAGES - 1,
                gap_before_final_norm=not output_norms,
                **kwargs,
            )
            self.num_features = self.head_hidden_size = self.backbone.channels[-1]
            self.neck = MlpNeck(self.num_features) if mlp_neck else None
            if self.neck is not None:
                self.head_hidden_size = self.neck.out_channels
            self.head = Head(self.head_hidden_size, num_classes, global_pool, drop_rate)
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        reductions = accumulate(STRIDES[output_stride], mul)
        self.feature_info = [
            {'num_chs': channels, 'reduction': reduction, 'module': f'backbone.stages.{i}'}
            for i, (channels, reduction) in enumerate(zip(self.backbone.channels, reductions, strict=True))
        ]
        self.to(dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_chans, H, W) to (N, num_classes), or what :meth:`forward_head` gives without classes or pool.

        Raises:
            ValueError: Another shape, or a side below 32.
        """
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, in_chans, H, W) to the last stage's raw map, (N, num_features, H / 32, W / 32).

        Raises:
            ValueError: Another shape, or a side below 32.
        """
        return self._stage_maps(x, len(self.backbone.stages))[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool, norm, dropout and classifier, on the map of :meth:`forward_features`.

        Args:
            x: (N, num_features, H, W).
            pre_logits: Leave the classifier out.

        Returns:
            (N, C), or (N, C, H, W) with ``global_pool=''``. C is ``num_classes``; ``head_hidden_size`` without
            classifier.
        """
        pooled = self._normed(POOLS[self.head.global_pool](x), len(self.backbone.stages) - 1)
        rows = pooled.movedim(1, -1)
        if self.head.global_pool:
            rows = rows.flatten(1)
        if self.neck is not None:
            (hidden,) = self.neck([rows.reshape(-1, rows.shape[-1])])
            rows = hidden.reshape(*rows.shape[:-1], hidden.shape[-1])
        return self.head(rows, pre_logits).movedim(-1, 1)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of some stages.

        Args:
            x: (N, in_chans, H, W).
            indices: Stages, negative ones count from the end; an int for that many last ones, None for all.
            norm: Norm the maps of those stages that have a norm: the last one, or all with ``output_norms``, where this
                is always so.
            stop_early: Compute no stage behind the last one asked for.
            output_fmt: 'NCHW' alone.
            intermediates_only: Return the maps alone.

        Returns:
            A list of (N, C_i, H / S_i, W / S_i), and before it the raw map of the last stage computed.

        Raises:
            ValueError: Another shape, a stage that the net does not have, or another format.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f"output_fmt must be 'NCHW', but got {output_fmt!r}")
        stages = len(self.backbone.stages)
        taken = take_indices(indices, stages)
        maps = self._stage_maps(x, max(taken) + 1 if stop_early or intermediates_only else stages)
        if norm or self.output_norms:
            chosen = [self._normed(maps[i], i).contiguous() for i in taken]
        else:
            chosen = [maps[i] for i in taken]
        chosen = list(keep_together(tuple(chosen)))
        return chosen if intermediates_only else (maps[-1], chosen)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what :meth:`forward_intermediates` of ``indices`` does not need.

        Args:
            indices: As there.
            prune_norm: Drop the last stage's norm, unless ``output_norms`` asks for it.
            prune_head: Drop pooling and classifier; done anyhow where the last stage goes.

        Returns:
            ``indices`` counted from 0.

        Raises:
            ValueError: A stage that the net does not have.
        """
        backbone, stages = self.backbone, len(self.backbone.stages)
        taken = take_indices(indices, stages)
        kept = max(taken) + 1
        for i in range(stages):
            unused = i not in taken if self.output_norms else prune_norm or kept < stages
            if unused and hasattr(backbone, f'norm{i}'):
                delattr(backbone, f'norm{i}')
        backbone.downsample_layers = backbone.downsample_layers[:kept]
        backbone.stages = backbone.stages[:kept]
        if hasattr(backbone, 'pos_embeds'):
            backbone.pos_embeds = cast(nn.ParameterList, backbone.pos_embeds)[:kept]
        backbone.frozen_stages = min(backbone.frozen_stages, kept)
        if prune_head or kept < stages:
            self.num_features = self.head_hidden_size = self.feature_info[kept - 1]['num_chs']
            self.neck = None
            self.head.in_features = self.num_features
            self.reset_classifier(0, '')
        return taken

    def get_classifier(self) -> nn.Module:
        """The linear classifier, or an Identity."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a fresh one.

        Args:
            num_classes: Its rows; 0 for none.
            global_pool: As for the class; None for the same as before.

        Raises:
            TypeError, ValueError: An argument is outside its choices.
        """
        like = next(self.backbone.parameters())
        self.head.reset(num_classes, global_pool, like.device, like.dtype)
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether blocks are recomputed in the backward pass, which saves memory and takes time."""
        for stage in self.backbone.stages:
            for block in stage.children():
                block.with_cp = enable  # type: ignore[assignment]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names for layer-wise learning rates: stem, then stages or blocks; the rest is the head.

        A stage's downsampling and its positional embedding go with its first block.

        Args:
            coarse: A group a stage, not a group a block.
        """
        blocks: Any = r'^backbone\.(?:downsample_layers|pos_embeds|stages)\.(\d+)'
        if not coarse:
            blocks = [
                (r'^backbone\.(?:downsample_layers|pos_embeds)\.(\d+)', (0,)),
                (r'^backbone\.stages\.(\d+)\.(\d+)', None),
            ]
        return {'stem': r'^backbone\.downsample_layers\.0\.', 'blocks': blocks}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay, beside biases and those of one dimension: PeLK's embedding."""
        words = self.backbone.no_weight_decay_keywords
        return {
            f'backbone.{name}' for name, _ in self.backbone.named_parameters() if any(word in name for word in words)
        }

    def _stage_maps(self, x: Tensor, stages: int) -> list[Tensor]:
        """The raw maps of the first ``stages`` stages."""
        # one comparison a side, as in the backbone: a `min` of both would bound neither for torch.export
        if x.ndim != 4 or x.shape[1] != self.in_chans or x.shape[2] < MIN_IMAGE_SIZE or x.shape[3] < MIN_IMAGE_SIZE:
            raise ValueError(
                f'{type(self.backbone).__name__} takes images (N, {self.in_chans}, H, W) with H and W at least '
                f'{MIN_IMAGE_SIZE} pixels, but got {tuple(x.shape)}'
            )
        maps = []
        for i in range(stages):
            x = self.backbone.downsample_layers[i](x)
            extras = self.backbone.stage_extras(i)
            for block in self.backbone.stages[i].children():
                x = block(x, *extras)
            maps.append(x)
        return maps

    def _normed(self, x: Tensor, stage: int) -> Tensor:
        norm = getattr(self.backbone, f'norm{stage}', None)
        return x if norm is None else norm(x)


def take_indices(indices: int | Sequence[int] | None, stages: int) -> list[int]:
    """Stages counted from 0.

    Args:
        indices: Stages, negative ones count from the end; an int for that many last ones, None for all.
        stages: How many there are.

    Raises:
        TypeError, ValueError: Not stages of the net.
    """
    if indices is None:
        return list(range(stages))
    asked = range(-indices, 0) if isinstance(indices, int) else indices
    if len(asked) == 0 or not all(-stages <= check_index(i) < stages for i in asked):
        raise ValueError(
            f'out_indices must be stages from {-stages} to {stages - 1}, or how many of the last ones, '
            f'but got {indices!r}'
        )
    return [i % stages for i in asked]


def check_index(value: object) -> int:
    """``value``, which must be an int."""
    check_int('every entry of out_indices', value)
    return cast(int, value)
