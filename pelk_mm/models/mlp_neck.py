"""The hidden layer of InceptionNeXt's classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.norm import build_activation
from ..registry import MODELS, register
from ..utils.checks import check_int, check_number


@register(MODELS)
class MlpNeck(BaseModule):
    """LayerNorm(act(Linear(x))) on pooled features (InceptionNeXt, arXiv 2303.16900; its authors' classifier).

    Stands between a backbone with ``gap_before_final_norm`` and mmpretrain's ``LinearClsHead``, whose ``in_channels``
    is then ``out_channels``.

    Args:
        in_channels: C.
        mlp_ratio: Hidden channels over C, truncated.
        act_cfg: Activation.
        init_cfg: mmengine's initialisation.

    Attributes:
        out_channels: Hidden channels.

    Raises:
        TypeError, ValueError: An argument is outside its range.
    """

    def __init__(
        self,
        in_channels: int,
        mlp_ratio: float = 3.0,
        act_cfg: Mapping[str, Any] = {'type': 'GELU'},  # noqa: B006 (never written to)
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_int('in_channels', in_channels, 1)
        check_number('mlp_ratio', mlp_ratio)
        self.in_channels = in_channels
        self.out_channels = int(mlp_ratio * in_channels)
        if self.out_channels < 1:
            raise ValueError(f'mlp_ratio must leave a hidden channel of in_channels={in_channels}, but got {mlp_ratio}')
        self.fc = nn.Linear(in_channels, self.out_channels)
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)
        self.act = build_activation(act_cfg)
        self.norm = nn.LayerNorm(self.out_channels, eps=1e-6)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor]:
        """The last of the backbone's outputs, (N, C), to (N, out_channels), as a tuple of one.

        Raises:
            ValueError: Another shape.
        """
        x = features[-1]
        if x.ndim != 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f'MlpNeck takes pooled features (N, {self.in_channels}), but got {tuple(x.shape)}: '
                'set gap_before_final_norm=True in the backbone'
            )
        return (self.norm(self.act(self.fc(x))),)
