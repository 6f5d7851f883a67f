"""OverLoCK's classifier, with its auxiliary loss on the overview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import MODELS, register
from ..utils.checks import check_int, check_number


@register(MODELS)
class OverLoCKHead(BaseModule):
    """1 x 1 convolution, BatchNorm, SiLU, average, linear; and in training a linear classifier on the overview.

    Stands behind :class:`~pelk_mm.models.OverLoCK` with ``gap_before_final_norm=False`` and ``overview_output=True`` in
    mmpretrain's ``ImageClassifier``, whose ``ClsHead`` computes losses and predictions from the scores. Source: the
    authors' code of OverLoCK (arXiv 2502.20087).

    Args:
        num_classes: Number of classes.
        in_channels: Of the features, C_4 + C_4 // 4.
        overview_channels: C_4 of the overview; None for no classifier on it.
        hidden_channels: Of the convolution.
        overview_weight: Of the overview's loss; the authors' 0.4.
        loss: Config of mmpretrain's loss, for both; None for a head that gives scores only.
        **kwargs: ``topk``, ``cal_acc`` of mmpretrain's ``ClsHead``.
        init_cfg: mmengine's initialisation.

    Raises:
        TypeError, ValueError: An argument is outside its range.
        ImportError: mmpretrain is missing, and ``loss`` not None.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        overview_channels: int | None = None,
        hidden_channels: int = 1024,
        overview_weight: float = 0.4,
        loss: Mapping[str, Any] | None = {'type': 'CrossEntropyLoss', 'loss_weight': 1.0},  # noqa: B006 (not written)
        init_cfg: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        widths = {'num_classes': num_classes, 'in_channels': in_channels, 'hidden_channels': hidden_channels}
        for name, width in widths.items():
            check_int(name, width, 1)
        check_number('overview_weight', overview_weight, 0)
        self.in_channels, self.overview_weight = in_channels, overview_weight
        self.projection = nn.Conv2d(in_channels, hidden_channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(hidden_channels)
        self.fc = nn.Linear(hidden_channels, num_classes)
        self.overview_norm = self.overview_fc = None
        if overview_channels is not None:
            check_int('overview_channels', overview_channels, 1)
            self.overview_norm = nn.BatchNorm2d(overview_channels)
            self.overview_fc = nn.Linear(overview_channels, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.criterion: Any = None if loss is None else _build_criterion(loss, kwargs)

    def pre_logits(self, features: Sequence[Tensor]) -> Tensor:
        """What the linear classifier reads, (N, hidden_channels), of the backbone's features.

        Raises:
            ValueError: Other features than the class describes.
        """
        wanted = 1 if self.overview_fc is None else 2
        x = features[-wanted] if len(features) >= wanted else None
        if x is None or x.ndim != 4 or x.shape[1] != self.in_channels:
            got = [tuple(x.shape) for x in features]
            raise ValueError(
                f'OverLoCKHead takes features (N, {self.in_channels}, H, W)'
                f'{"" if wanted == 1 else " and the overview"}, but got {got}: set gap_before_final_norm=False'
                f'{"" if wanted == 1 else " and overview_output=True"} in the backbone'
            )
        return F.silu(self.norm(self.projection(x))).mean((2, 3))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Scores (N, num_classes), before softmax."""
        return self.fc(self.pre_logits(features))

    def overview_scores(self, features: Sequence[Tensor]) -> Tensor:
        """Scores (N, num_classes) of the overview, the last of the features.

        Raises:
            RuntimeError: The head was built without ``overview_channels``.
        """
        if self.overview_norm is None or self.overview_fc is None:
            raise RuntimeError('the head has no classifier on the overview: set overview_channels')
        return self.overview_fc(self.overview_norm(features[-1]).mean((2, 3)))

    def loss(self, features: Sequence[Tensor], data_samples: Sequence[Any], **kwargs: Any) -> dict[str, Tensor]:
        """Losses ``loss`` and ``loss_overview`` of mmpretrain's samples."""
        losses: dict[str, Tensor] = self._criterion().loss((self(features),), data_samples, **kwargs)
        if self.overview_fc is not None:
            found = self._criterion().loss((self.overview_scores(features),), data_samples, **kwargs)
            losses['loss_overview'] = self.overview_weight * found['loss']
        return losses

    def predict(self, features: Sequence[Tensor], data_samples: Sequence[Any] | None = None) -> list[Any]:
        """mmpretrain's samples with scores and labels."""
        predictions: list[Any] = self._criterion().predict((self(features),), data_samples)
        return predictions

    def _criterion(self) -> Any:
        if self.criterion is None:
            raise RuntimeError('the head was built with loss=None, and gives scores only')
        return self.criterion


def _build_criterion(loss: Mapping[str, Any], kwargs: Mapping[str, Any]) -> nn.Module:
    try:
        from mmpretrain.models.heads import ClsHead
    except ImportError as error:
        raise ImportError(f'OverLoCKHead needs mmpretrain for its losses ({error}); or set loss=None') from error
    head: nn.Module = ClsHead(loss=dict(loss), **kwargs)
    return head
