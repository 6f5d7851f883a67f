"""OverLoCK: an overview first, then a closer look with kernels mixed from it (CVPR 2025, arXiv 2502.20087)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.norm import build_activation, build_branch_norm, build_output_norm, check_branch_norm_cfg
from ..layers.overlock_blocks import ChannelAffine, ContMixBlock, OverLoCKBlock
from ..layers.together import keep_together
from ..registry import MODELS, register
from ..utils.checks import check_flag, check_int, check_sequence
from .skeleton import LargeKernelBackbone, check_kernel_sizes


@register(MODELS)
class OverLoCK(LargeKernelBackbone):
    """OverLoCK backbone: three stages and an overview of :class:`OverLoCKBlock`, and two of :class:`ContMixBlock`.

    The features of stage 3 go twice: through the overview, at a 32nd of the image, and, with what that found as their
    context, through a second look, at a 16th and then at a 32nd of the image. Outputs 1 and 2 are those of the first
    two stages, outputs 3 and 4 those of the second look, features and context together: C_3 + C_4 // 4 and
    C_4 + C_4 // 4 channels. ``stages.3`` holds the overview's blocks, ``focus_stages`` those of the second look.

    Args:
        arch: 'xtiny', 'tiny', 'small', 'base'; or ``dict(depths=..., channels=...)`` with four entries each: stages 1
            to 3 and the overview.
        in_channels: Channels of the image.
        focus_depths: Blocks of the second look at a 16th and at a 32nd; None for those of ``arch``, (2, 2) for a dict.
        focus_heads: Heads of their :class:`~pelk_mm.layers.contmix.ContMix`; None for those of ``arch``, (4, 4) for a
            dict.
        kernel_sizes: K of stages 1, 2, 3 and of the overview; the second look has those of the last two.
        small_kernel: S of the second look.
        output_norm_cfg: Norm of each output. None for none, as in the authors' classifier; for dense tasks
            ``dict(type='LN2d', eps=1e-6)``.
        normed_trunk: The normed output of stage 2, not the features themselves, feeds stage 3: as the authors' dense
            checkpoints were trained, which need it, while those of classifiers must not have it.
        context_output: Add the overview's features to the last output, as the authors do for detection.
        overview_output: Put out the overview's features (N, C_4, H / 32, W / 32), without a norm, behind the others,
            for the auxiliary loss of :class:`~pelk_mm.models.OverLoCKHead`.
        norm_cfg: LayerNorm of the blocks.
        branch_norm_cfg: BatchNorm of stem, downsampling and convolutions: 'BN' or 'SyncBN'.
        act_cfg: Activation of stem and blocks.
        drop_path_rate: Stochastic depth of the last block; linear over stages, overview and second look.
        **kwargs: Every other argument of :class:`LargeKernelBackbone` but ``layer_scale_init_value``.

    Raises:
        TypeError, ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings = {
        'xtiny': {'depths': (2, 2, 3, 2), 'channels': (56, 112, 256, 336)},
        'tiny': {'depths': (4, 4, 6, 2), 'channels': (64, 128, 256, 512)},
        'small': {'depths': (6, 6, 8, 3), 'channels': (64, 128, 320, 512)},
        'base': {'depths': (8, 8, 10, 4), 'channels': (80, 160, 384, 576)},
    }
    #: Depths and heads of the second look.
    focus_settings = {
        'xtiny': ((6, 2), (8, 12)),
        'tiny': ((12, 2), (8, 16)),
        'small': ((16, 3), (16, 32)),
        'base': ((20, 4), (12, 18)),
    }

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        focus_depths: Sequence[int] | None = None,
        focus_heads: Sequence[int] | None = None,
        kernel_sizes: Sequence[int] = (17, 15, 13, 7),
        small_kernel: int = 5,
        output_norm_cfg: Mapping[str, Any] | None = None,
        normed_trunk: bool = False,
        context_output: bool = False,
        overview_output: bool = False,
        norm_cfg: Mapping[str, Any] = {'type': 'LN2d', 'eps': 1e-6},  # noqa: B006 (never written to)
        branch_norm_cfg: Mapping[str, Any] = {'type': 'BN'},  # noqa: B006
        act_cfg: Mapping[str, Any] = {'type': 'GELU'},  # noqa: B006
        drop_path_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if 'layer_scale_init_value' in kwargs:
            raise TypeError('OverLoCK takes no layer_scale_init_value: its residuals, not its branches, are scaled')
        flags = {'normed_trunk': normed_trunk, 'context_output': context_output, 'overview_output': overview_output}
        for name, flag in flags.items():
            check_flag(name, flag)
        if output_norm_cfg is None and (normed_trunk or context_output):
            raise ValueError(
                "normed_trunk and context_output need norms of the outputs: set output_norm_cfg=dict(type='LN2d', "
                'eps=1e-6)'
            )
        settings = self.focus_settings.get(arch) if isinstance(arch, str) else None
        depths, heads = settings or ((2, 2), (4, 4))
        self.focus_depths = _check_pair('focus_depths', depths if focus_depths is None else focus_depths)
        self.further_blocks = sum(self.focus_depths)
        self.focus_heads = _check_pair('focus_heads', heads if focus_heads is None else focus_heads)
        self.kernel_sizes, self.small_kernel = check_kernel_sizes(kernel_sizes), small_kernel
        self.output_norm_cfg = output_norm_cfg
        self.branch_norm_cfg = check_branch_norm_cfg(branch_norm_cfg, 'branch_norm_cfg')
        self.normed_trunk, self.overview_output = normed_trunk, overview_output
        super().__init__(arch, in_channels, norm_cfg=norm_cfg, act_cfg=act_cfg, drop_path_rate=drop_path_rate, **kwargs)
        last = max(self.out_indices)
        if (context_output and last < 3) or (overview_output and last < 2) or (normed_trunk and last < 1):
            raise ValueError(
                f'out_indices must reach what normed_trunk, context_output and overview_output ask for, but got '
                f'{self.out_indices}'
            )
        _, _, third, fourth = self.channels
        if normed_trunk and 1 not in self.out_indices:
            self.norm1 = self.build_output_norm(self.channels[1])
        self.overview_proj = nn.Conv2d(fourth, self.context_channels, kernel_size=1)
        rates = self.drop_path_rates(drop_path_rate)[sum(self.depths) :]
        self.focus_stages = nn.ModuleList(
            nn.ModuleList(self._focus_block(stage, block, rates.pop(0)) for block in range(depth))
            for stage, depth in enumerate(self.focus_depths)
        )
        self.focus_downsample = nn.ModuleList(
            self._strided(*widths, self.strides[3]) for widths in ((third, fourth), (self.context_channels,) * 2)
        )
        self.context_output: nn.Sequential | None = None
        if context_output:
            self.context_output = nn.Sequential(
                build_output_norm(output_norm_cfg, fourth),
                nn.Conv2d(fourth, self.output_channels(3), kernel_size=1),
                ChannelAffine(self.output_channels(3), 1e-5),
            )
        self.reset_layers()
        self.train()  # freezes what frozen_stages names

    @property
    def context_channels(self) -> int:
        """Width of the context that the overview gives the second look."""
        return max(self.channels[3] // 4, 1)

    def output_channels(self, stage: int) -> int:
        """Channels of the output of ``stage`` (0..3): with the context from stage 3 on."""
        return self.channels[stage] + (self.context_channels if stage > 1 else 0)

    def build_block(self, stage: int, block: int, channels: int, drop_path_rate: float) -> OverLoCKBlock:
        """A block of the first three stages or of the overview; the residual is scaled from stage 3 on."""
        return OverLoCKBlock(
            channels,
            self.kernel_sizes[stage],
            scaled_residual=stage > 1,
            norm_cfg=self.norm_cfg,
            branch_norm_cfg=self.branch_norm_cfg,
            act_cfg=self.act_cfg,
            drop_path_rate=drop_path_rate,
            with_cp=self._block_args['with_cp'],
        )

    def _focus_block(self, stage: int, block: int, drop_path_rate: float) -> ContMixBlock:
        return ContMixBlock(
            self.channels[2 + stage],
            self.context_channels,
            self.focus_heads[stage],
            self.kernel_sizes[2 + stage],
            self.small_kernel,
            mixes_overview=bool(stage or block),
            norm_cfg=self.norm_cfg,
            branch_norm_cfg=self.branch_norm_cfg,
            act_cfg=self.act_cfg,
            drop_path_rate=drop_path_rate,
            with_cp=self._block_args['with_cp'],
        )

    def build_stem(self, channels: int) -> nn.Sequential:
        """Image (N, in_channels, H, W) to (N, channels, ceil(H / 4), ceil(W / 4)), in four convolutions."""
        half = max(channels // 2, 1)
        layers: list[nn.Module] = []
        for before, after, stride in (
            (self.in_channels, half, 2),
            (half, half, 1),
            (half, channels, 2),
            (channels, channels, 1),
        ):
            layers += [*self._strided(before, after, stride), build_activation(self.act_cfg)]
        return nn.Sequential(*layers[:-1])

    def build_downsample(self, in_channels: int, channels: int, stride: int = 2) -> nn.Sequential:
        """(N, in_channels, H, W) to (N, channels, ceil(H / stride), ceil(W / stride)), between two stages."""
        return self._strided(in_channels, channels, stride)

    def _strided(self, in_channels: int, channels: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False),
            build_branch_norm(self.branch_norm_cfg, channels),
        )

    def build_output_norm(self, channels: int) -> nn.Module:
        """The norm of an output, or none."""
        return build_output_norm(self.output_norm_cfg, channels)

    def stage_modules(self, stage: int) -> tuple[nn.Module, ...]:
        """What computes an output from the one before: the third with the overview."""
        if stage < 2:
            return super().stage_modules(stage)
        if stage == 3:
            return self.focus_downsample, self.focus_stages[1]
        return (*super().stage_modules(2), *super().stage_modules(3), self.overview_proj, self.focus_stages[0])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image features.

        Args:
            x: (N, in_channels, H, W), H and W at least 32.

        Returns:
            As for :class:`LargeKernelBackbone`, sides rounded up; with ``overview_output`` the overview's features
            behind them.

        Raises:
            TypeError, ValueError: Another shape or type.
        """
        self.check_images(x)
        outputs: list[Tensor] = []
        last = max(self.out_indices)
        for i in range(min(last, 2) + 1):
            x = self._run(i, x)
            if i == 1 and self.normed_trunk:
                x = self.norm1(x)
                if i in self.out_indices:
                    outputs.append(self._output(x, nn.Identity()))
            elif i < 2 and i in self.out_indices:
                outputs.append(self._output(x, getattr(self, f'norm{i}')))
        if last >= 2:
            seen = self._run(3, x)
            outputs += self._second_look(x, seen)
            if self.overview_output:
                outputs.append(seen.contiguous())
        return keep_together(tuple(outputs))

    def _run(self, stage: int, x: Tensor) -> Tensor:
        x = self.downsample_layers[stage](x)
        for block in cast(nn.ModuleList, self.stages[stage]):
            x = block(x)
        return x

    def _second_look(self, x: Tensor, seen: Tensor) -> list[Tensor]:
        """Outputs 3 and 4, those that are asked for."""
        outputs = []
        overview = self.overview_proj(seen)
        context = F.interpolate(overview, x.shape[2:], mode='bilinear')
        x = self._focus(0, x, context, context)
        if 2 in self.out_indices:
            outputs.append(self._output(x, self.norm2))
        if 3 in self.out_indices:
            parts = x.split([self.channels[2], self.context_channels], dim=1)
            x, context = (layer(part) for layer, part in zip(self.focus_downsample, parts, strict=True))
            x = self._focus(1, x, context, overview)
            if self.context_output is None:
                outputs.append(self._output(x, self.norm3))
            else:
                outputs.append(self._output(self.norm3(x) + self.context_output(seen), nn.Identity()))
        return outputs

    def _focus(self, stage: int, x: Tensor, context: Tensor, overview: Tensor) -> Tensor:
        channels = [self.channels[2 + stage], self.context_channels]
        first, *others = cast(nn.ModuleList, self.focus_stages[stage])
        joined: Tensor = first(x, context, overview)
        for block in others:
            joined = block(*joined.split(channels, dim=1), overview)
        return joined

    def switch_to_deploy(self) -> None:
        """Merge the branches of every static large kernel in place, as the authors do; idempotent.

        The BatchNorms stay, so that the number of parameters is the published one.
        """
        super().switch_to_deploy()
        for stage in self.focus_stages:
            for block in cast(nn.ModuleList, stage):
                cast(ContMixBlock, block).switch_to_deploy()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay: the second look is as deep as stage 4."""
        inside = param_name.removeprefix(prefix)
        if param_name.startswith(prefix) and inside.startswith(('focus_', 'overview_', 'context_')):
            return super().get_layer_depth(f'{prefix}stages.3.0.', prefix)
        return super().get_layer_depth(param_name, prefix)


def _check_pair(name: str, values: Sequence[int]) -> tuple[int, int]:
    check_sequence(name, values)
    for value in values:
        check_int(f'every entry of {name}', value, 1)
    if len(values) != 2:
        raise ValueError(f'{name} must have two entries, for a 16th and a 32nd of the image, but got {values!r}')
    return values[0], values[1]
