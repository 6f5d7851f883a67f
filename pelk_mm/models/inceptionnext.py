"""InceptionNeXt: when Inception meets ConvNeXt (Yu et al., CVPR 2024, arXiv 2303.16900)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import InceptionConv, LargeKernelBlock
from ..layers.fold import fold_before, fold_behind
from ..layers.norm import batch_norm_scale_and_shift, build_output_norm, check_branch_norm_cfg
from ..registry import MODELS, register
from .skeleton import LargeKernelBackbone

#: Hidden over outer channels of the blocks, for each stage.
MLP_RATIOS = (4.0, 4.0, 4.0, 3.0)


@register(MODELS)
class InceptionNeXt(LargeKernelBackbone):
    """InceptionNeXt backbone: :class:`InceptionConv` in ConvNeXt's skeleton with BatchNorm for LayerNorm.

    The authors' classifier behind it has two layers: average, Linear 3 C, GELU, LayerNorm, Linear.

    Args:
        arch: 'atto', 'tiny', 'small', 'base'; or ``dict(depths=..., channels=...)`` with four entries each.
        in_channels: Channels of the image.
        branch_ratio: Share of the channels for each of the three convolutions; None for the authors' 1/8, atto 1/4.
        square_kernel: Size of the square kernel, odd.
        band_kernel: Length of the two bands, odd; None for the authors' 11, atto 9.
        norm_cfg: BatchNorm of stem, blocks and downsampling: 'BN' or 'SyncBN'.
        output_norm_cfg: Norm of each output. None for none, as in the authors' classifier; for dense tasks, where
            several outputs are read, ``dict(type='LN2d', eps=1e-6)`` as elsewhere in this package.
        act_cfg: Activation of the blocks.
        **kwargs: Every other argument of :class:`LargeKernelBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    has_layer_norms = False
    arch_settings = {
        'atto': {'depths': (2, 2, 6, 2), 'channels': (40, 80, 160, 320)},
        'tiny': {'depths': (3, 3, 9, 3), 'channels': (96, 192, 384, 768)},
        'small': {'depths': (3, 3, 27, 3), 'channels': (96, 192, 384, 768)},
        'base': {'depths': (3, 3, 27, 3), 'channels': (128, 256, 512, 1024)},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        branch_ratio: float | None = None,
        square_kernel: int = 3,
        band_kernel: int | None = None,
        norm_cfg: Mapping[str, Any] = {'type': 'BN'},  # noqa: B006 (never written to)
        output_norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] = {'type': 'GELU'},  # noqa: B006
        **kwargs: Any,
    ) -> None:
        atto = arch == 'atto'
        self._mixer_args: dict[str, Any] = {
            'branch_ratio': (1 / 4 if atto else 1 / 8) if branch_ratio is None else branch_ratio,
            'square_kernel': square_kernel,
            'band_kernel': (9 if atto else 11) if band_kernel is None else band_kernel,
        }
        self.output_norm_cfg = output_norm_cfg
        norm_cfg = check_branch_norm_cfg(norm_cfg, 'norm_cfg')
        super().__init__(arch, in_channels, norm_cfg=norm_cfg, act_cfg=act_cfg, **kwargs)
        self.train()  # freezes what frozen_stages names

    def build_mixer(self, stage: int, block: int, channels: int) -> InceptionConv:
        """An :class:`InceptionConv`, of the same sizes everywhere."""
        return InceptionConv(channels, **self._mixer_args)

    def build_block(self, stage: int, block: int, channels: int, drop_path_rate: float) -> LargeKernelBlock:
        """ConvNeXt's block, narrower in the last stage."""
        return LargeKernelBlock(
            self.build_mixer(stage, block, channels),
            channels,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            mlp_ratio=MLP_RATIOS[stage],
            drop_path_rate=drop_path_rate,
            **self._block_args,
        )

    def build_output_norm(self, channels: int) -> nn.Module:
        """The norm of a stage's output, or none."""
        return build_output_norm(self.output_norm_cfg, channels)

    def switch_to_deploy(self) -> None:
        """Fold every BatchNorm but those of the outputs into a convolution or linear beside it; idempotent."""
        super().switch_to_deploy()
        for i, layer in enumerate(self.downsample_layers):
            layers = cast(nn.Sequential, layer)
            norm = layers[0] if i else layers[1]
            if not isinstance(norm, _BatchNorm):
                return
            convolution, fold = (layers[1], fold_before) if i else (layers[0], fold_behind)
            fold(cast(nn.Conv2d, convolution), *batch_norm_scale_and_shift(norm))
            layers[0 if i else 1] = nn.Identity()
