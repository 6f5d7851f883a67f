"""PeLK: parameter-efficient large-kernel ConvNets with peripheral convolution (Chen et al., CVPR 2024).

Written from the paper, arXiv 2403.07589; no official code or weights exist. What it leaves open is decided in
``docs/paper/decisions.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..layers import TokenMixer
from ..layers.mixers.partial import count_conv_channels
from ..layers.mixers.table import find_mixer
from ..layers.norm import check_branch_norm_cfg
from ..ops import SharingGrid
from ..registry import MODELS, register
from ..utils.checks import check_sequence
from .skeleton import LargeKernelBackbone, check_kernel_sizes


@register(MODELS)
class PeLK(LargeKernelBackbone):
    """PeLK backbone.

    PeLK-101 is ``kernel_sizes=(101, 69, 67, 13), central_size=7``.

    Args:
        arch: 'tiny', 'small', 'base' (the paper's); 'atto', 'femto', 'pico', 'nano' (ConvNeXt V2's); or
            ``dict(depths=..., channels=...)`` with four entries each.
        in_channels: Channels of the image.
        kernel_sizes: K of each stage, odd.
        central_size: Unit-cell centre of the paper's sharing grid ('peripheral' alone).
        grids: A grid (sizes or :class:`SharingGrid`) or None for each stage, instead of the paper's.
        conv_ratio: Share of the channels that are convolved (section 4.3).
        small_kernel: Parallel small kernel that merges at deployment; None for none (decision D4).
        pos_embed: Reading of the kernel-wise positional embedding, 'visible' or 'bias'; None for no embedding (D2).
        mixer: Token mixer, a name in ``pelk_mm.layers.MIXERS``: 'peripheral', or to compare with

            - 'dense': RepLKNet's K x K kernel;
            - 'stripe': SLaK's K x n and n x K, n = ``small_kernel``;
            - 'dilated': UniRepLKNet's K x K, with its own parallel kernels in place of ``small_kernel``;
            - 'inception': InceptionNeXt's bands of length K and square of ``small_kernel``, biased and without
              BatchNorm, each on a third of the channels that are convolved;
            - 'shiftwise': SW's kernel of N x N filters, N = ``small_kernel``;
            - 'wavelet': WTConv's kernels of ``small_kernel`` in the fewest wavelet levels that see K pixels;
            - 'window': WBMM's product within windows of ``window_size``, whatever K.

            Their authors have no h, ``pos_embed=None``, and convolve every channel, ``conv_ratio=1.0``, but
            InceptionNeXt's 3/8 and SW's 0.77. From 'dilated' on they read no h: 'visible' stands for None with them.
        width_factor: Multiplies every channel count, of a dict too, truncated. 1.0 for "without sparsity" (D3).
        norm_cfg: LayerNorm of stem, blocks, downsampling and outputs.
        branch_norm_cfg: BatchNorm behind each convolution branch: 'BN' or 'SyncBN'.
        act_cfg: Activation of the blocks.
        window_size: Side of the windows ('window' alone).
        **kwargs: ``strides``, ``drop_path_rate``, ``layer_scale_init_value``, ``out_indices``, ``frozen_stages``,
            ``norm_eval``, ``gap_before_final_norm``, ``with_cp``, ``init_cfg`` of :class:`LargeKernelBackbone`.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings = {
        'atto': {'depths': (2, 2, 6, 2), 'channels': (40, 80, 160, 320)},
        'femto': {'depths': (2, 2, 6, 2), 'channels': (48, 96, 192, 384)},
        'pico': {'depths': (2, 2, 6, 2), 'channels': (64, 128, 256, 512)},
        'nano': {'depths': (2, 2, 8, 2), 'channels': (80, 160, 320, 640)},
        'tiny': {'depths': (3, 3, 9, 3), 'channels': (96, 192, 384, 768)},
        'small': {'depths': (3, 3, 27, 3), 'channels': (96, 192, 384, 768)},
        'base': {'depths': (3, 3, 27, 3), 'channels': (128, 256, 512, 1024)},
    }
    no_weight_decay_keywords = ('pos_embeds',)

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        central_size: int = 5,
        grids: Sequence[SharingGrid | Sequence[int] | None] | None = None,
        conv_ratio: float = 3 / 8,
        small_kernel: int | None = 5,
        pos_embed: Literal['visible', 'bias'] | None = 'visible',
        mixer: str = 'peripheral',
        width_factor: float = 1.3,
        norm_cfg: Mapping[str, Any] = {'type': 'LN2d', 'eps': 1e-6},  # noqa: B006 (never written to)
        branch_norm_cfg: Mapping[str, Any] = {'type': 'BN'},  # noqa: B006
        act_cfg: Mapping[str, Any] = {'type': 'GELU'},  # noqa: B006
        window_size: int = 7,
        **kwargs: Any,
    ) -> None:
        self._mixer_class = find_mixer(mixer)
        kernel_sizes = check_kernel_sizes(kernel_sizes)
        stage_grids: Sequence[SharingGrid | Sequence[int] | None] = (None,) * 4 if grids is None else grids
        check_sequence('grids', stage_grids)
        if len(stage_grids) != 4:
            raise ValueError(f'grids must have one entry for each of the 4 stages, but got {grids!r}')
        read = self._mixer_class.pelk_arguments()
        for name, parameter, value, default in (
            ('central_size', 'central_size', central_size, 5),
            ('grids', 'grid', list(stage_grids), [None] * 4),
            ('small_kernel', 'small_kernel', small_kernel, 5),
            ('window_size', 'window_size', window_size, 7),
        ):
            if parameter not in read and value != default:
                raise ValueError(f'mixer={mixer!r} makes no use of {name}: leave it at {default}, but got {value}')
        check_branch_norm_cfg(branch_norm_cfg)
        if not self._mixer_class.reads_pos_embed:
            if pos_embed not in ('visible', None):
                raise ValueError(
                    f"mixer={mixer!r} reads no embedding: pos_embed must be None or the default 'visible', "
                    f'but got {pos_embed!r}'
                )
            pos_embed = None
        self._mixer_args: list[dict[str, Any]] = []
        for kernel_size, grid in zip(kernel_sizes, stage_grids, strict=True):
            arguments = {
                'central_size': central_size,
                'grid': grid,
                'conv_ratio': conv_ratio,
                'small_kernel': small_kernel,
                'window_size': window_size,
                'branch_norm_cfg': branch_norm_cfg,
                'pos_embed': pos_embed,
            }
            self._mixer_args.append({'kernel_size': kernel_size, **{name: arguments[name] for name in read}})
        super().__init__(arch, in_channels, width_factor=width_factor, norm_cfg=norm_cfg, act_cfg=act_cfg, **kwargs)
        self.pos_embed = pos_embed
        if pos_embed is not None:
            self.pos_embeds = nn.ParameterList(
                nn.init.trunc_normal_(torch.empty(count_conv_channels(channels, conv_ratio), size, size), std=0.02)
                for channels, size in zip(self.channels, kernel_sizes, strict=True)
            )
        self.train()  # freezes what frozen_stages names

    def build_mixer(self, stage: int, block: int, channels: int) -> TokenMixer:
        """The token mixer of ``stage``, over its kernel and grid."""
        return self._mixer_class.from_pelk(channels, **self._mixer_args[stage])

    def stage_extras(self, stage: int) -> tuple[Tensor, ...]:
        """The stage's positional embedding h, (g, K, K), where there is one."""
        return () if self.pos_embed is None else (self.pos_embeds[stage],)

    def switch_to_deploy(self) -> None:
        """Merge every mixer in place; idempotent. A 'bias' embedding goes into the mixers' biases and is dropped."""
        super().switch_to_deploy()
        if self.pos_embed == 'bias':
            del self.pos_embeds
            self.pos_embed = None
