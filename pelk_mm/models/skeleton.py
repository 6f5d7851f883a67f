"""The four-stage skeleton that every large-kernel network of this package stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers.block import LargeKernelBlock, ResidualBlock
from ..layers.mixers.base import TokenMixer
from ..layers.norm import build_norm, warn_of_batch_norm
from ..layers.together import keep_together
from ..utils.checks import check_flag, check_int, check_number, check_odd, check_sequence

#: Smallest image side: the last stage strides by 32.
MIN_IMAGE_SIZE = 32


class LargeKernelBackbone(BaseModule):
    """Four stages of residual blocks, with a strided convolution before each: ConvNeXt's unless a network says else.

    A network gives its architectures and :meth:`build_mixer`, and where it is no ConvNeXt its own :meth:`build_stem`,
    :meth:`build_downsample`, :meth:`build_block` and :meth:`build_output_norm`. The contract is that of mmpretrain's
    ConvNeXt: a tuple of outputs, module names ``downsample_layers.{i}``, ``stages.{i}.{j}``, ``norm{i}``.

    Args:
        arch: Name in ``arch_settings``; 'resnet_widths', 256 to 2048 channels as ResNet-50 puts them out, for configs
            whose channel numbers then stay (no published net); or ``dict(depths=..., channels=...)`` with four entries
            each.
        in_channels: Channels of the image.
        width_factor: Multiplies every channel count of ``arch``, truncated; not those of 'resnet_widths'.
        strides: Of the stem, 4, and of the downsampling before each further stage, 1 or 2. (4, 2, 1, 1) gives outputs
            at an eighth of the image, as DeepLab and PSPNet mean it. Kernels keep their size in pixels of the map, so
            they see half as much of the image for each stride left out; weights fit any strides.
        norm_cfg: Norm of stem, blocks, downsampling and outputs.
        act_cfg: Activation of the blocks.
        drop_path_rate: Stochastic depth of the last block; linear from 0 at the first.
        layer_scale_init_value: Initial layer scale; 0 for none.
        out_indices: Stages whose output is returned, an int or several; negative counts from the end.
        frozen_stages: How many stages, from the stem on, are frozen and kept in evaluation mode; 0 or -1 for none.
        norm_eval: Keep every BatchNorm in evaluation mode while training.
        gap_before_final_norm: Average each output over its pixels first, (N, C) outputs: for classification.
        with_cp: Recompute blocks in the backward pass to save memory.
        init_cfg: mmengine's initialisation, e.g. ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.

    Raises:
        ValueError: An argument is outside its choices; the message lists them.
    """

    arch_settings: Mapping[str, Mapping[str, Sequence[int]]] = {}
    #: Parameters whose name holds one of these get no weight decay, whatever their rank.
    no_weight_decay_keywords: tuple[str, ...] = ()
    #: Whether ``norm_cfg`` is a LayerNorm's in the published net.
    has_layer_norms = True
    #: Blocks behind those of the stages.
    further_blocks = 0

    def __init__(
        self,
        arch: str | Mapping[str, Sequence[int]] = 'tiny',
        in_channels: int = 3,
        *,
        width_factor: float = 1.0,
        strides: Sequence[int] = (4, 2, 2, 2),
        norm_cfg: Mapping[str, Any],
        act_cfg: Mapping[str, Any],
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = 0,
        norm_eval: bool = False,
        gap_before_final_norm: bool = True,
        with_cp: bool = False,
        init_cfg: Any = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(
                f'{type(self).__name__} takes no argument {next(iter(unknown))!r}: in a config that inherits another '
                'backbone, write _delete_=True beside type to replace it instead of merging the two'
            )
        super().__init__(init_cfg=init_cfg)
        check_int('in_channels', in_channels, 1)
        check_number('drop_path_rate', drop_path_rate, 0)
        if drop_path_rate >= 1:
            raise ValueError(f'drop_path_rate must be below 1, but got {drop_path_rate}')
        check_number('layer_scale_init_value', layer_scale_init_value, 0)
        for name, flag in {
            'norm_eval': norm_eval,
            'gap_before_final_norm': gap_before_final_norm,
            'with_cp': with_cp,
        }.items():
            check_flag(name, flag)
        self.depths, self.channels = self._resolve_arch(arch, width_factor)
        self.num_stages = len(self.depths)
        self.in_channels = in_channels
        self.out_indices = self._resolve_out_indices(out_indices)
        check_int('frozen_stages', frozen_stages, -1, self.num_stages)
        self.frozen_stages = max(frozen_stages, 0)
        self.strides = check_strides(strides)
        self.norm_eval = norm_eval
        self.gap_before_final_norm = gap_before_final_norm

        self.norm_cfg, self.act_cfg = norm_cfg, act_cfg
        if self.has_layer_norms:
            warn_of_batch_norm(type(self).__name__, norm_cfg)
        self._block_args: dict[str, Any] = {'layer_scale_init_value': layer_scale_init_value, 'with_cp': with_cp}

        rates = self.drop_path_rates(drop_path_rate)
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i, (depth, channels) in enumerate(zip(self.depths, self.channels, strict=True)):
            self.downsample_layers.append(
                self.build_downsample(self.channels[i - 1], channels, self.strides[i])
                if i
                else self.build_stem(channels)
            )
            self.stages.append(
                nn.ModuleList(self.build_block(i, block, channels, rates.pop(0)) for block in range(depth))
            )
            if i in self.out_indices:
                self.add_module(f'norm{i}', self.build_output_norm(self.output_channels(i)))
        self.reset_layers()

    def drop_path_rates(self, highest: float) -> list[float]:
        """Stochastic depth of every block in turn, linear from 0."""
        blocks = sum(self.depths) + self.further_blocks
        return [highest * i / max(blocks - 1, 1) for i in range(blocks)]

    def output_channels(self, stage: int) -> int:
        """Channels of the output of ``stage`` (0..3)."""
        return self.channels[stage]

    def reset_layers(self) -> None:
        """Truncated normal weights, standard deviation 0.02, and zero biases, of all convolutions and linears."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def build_mixer(self, stage: int, block: int, channels: int) -> TokenMixer:
        """The token mixer of the block ``block`` (from 0) of ``stage`` (0..3)."""
        raise NotImplementedError

    def build_block(self, stage: int, block: int, channels: int, drop_path_rate: float) -> ResidualBlock:
        """One residual block around :meth:`build_mixer`'s mixer."""
        return LargeKernelBlock(
            self.build_mixer(stage, block, channels),
            channels,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            drop_path_rate=drop_path_rate,
            **self._block_args,
        )

    def build_stem(self, channels: int) -> nn.Sequential:
        """Image (N, in_channels, H, W) to (N, channels, H / 4, W / 4)."""
        convolution = nn.Conv2d(self.in_channels, channels, kernel_size=4, stride=4)
        return nn.Sequential(convolution, build_norm(self.norm_cfg, channels))

    def build_downsample(self, in_channels: int, channels: int, stride: int = 2) -> nn.Sequential:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride), between two stages."""
        kind = nn.Conv2d if stride == 2 else _SameSizeConv2d
        convolution = kind(in_channels, channels, kernel_size=2, stride=stride)
        return nn.Sequential(build_norm(self.norm_cfg, in_channels), convolution)

    def build_output_norm(self, channels: int) -> nn.Module:
        """The norm of a stage's output."""
        return build_norm(self.norm_cfg, channels)

    def stage_modules(self, stage: int) -> tuple[nn.Module, ...]:
        """What computes a stage from the one before."""
        return self.downsample_layers[stage], self.stages[stage]

    def stage_extras(self, stage: int) -> tuple[Tensor, ...]:
        """Tensors that the stage's blocks share and receive beside the feature map."""
        return ()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image features.

        Args:
            x: (N, in_channels, H, W), H and W at least 32.

        Returns:
            For each of ``out_indices`` (N, C_i, H / S_i, W / S_i) with S_i the product of ``strides`` up to i, 4 to 32
            by default; or (N, C_i) with ``gap_before_final_norm``. One that is not read has gradients of zero. Stages
            behind the last of them are not computed.

        Raises:
            ValueError: Another shape.
        """
        self.check_images(x)
        outputs, last = [], max(self.out_indices)
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = downsample(x)
            extras = self.stage_extras(i)
            for block in stage.children():
                x = block(x, *extras)
            if i in self.out_indices:
                outputs.append(self._output(x, getattr(self, f'norm{i}')))
            if i == last:
                break
        return keep_together(tuple(outputs))

    def check_images(self, x: Tensor) -> None:
        """Raise TypeError or ValueError unless ``x`` is (N, in_channels, H, W), floating-point, H and W at least 32."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f'{type(self).__name__} takes a floating-point tensor of images, but got {got}')
        # one comparison a side: each bounds one size that torch.export leaves open, a `min` of both would bound neither
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape[2] < MIN_IMAGE_SIZE or x.shape[3] < MIN_IMAGE_SIZE:
            raise ValueError(
                f'{type(self).__name__} takes images (N, {self.in_channels}, H, W) with H and W at least '
                f'{MIN_IMAGE_SIZE} pixels, but got {tuple(x.shape)}'
            )

    def _output(self, x: Tensor, norm: nn.Module) -> Tensor:
        if self.gap_before_final_norm:
            return norm(x.mean((-2, -1), keepdim=True)).flatten(1)
        return norm(x).contiguous()

    def train(self, mode: bool = True) -> LargeKernelBackbone:
        """Set the mode; frozen stages and, with ``norm_eval``, BatchNorms stay in evaluation mode.

        Stages behind the last output are frozen too: without gradients they would stop training in several processes.
        """
        super().train(mode)
        for i in (*range(self.frozen_stages), *range(max(self.out_indices) + 1, self.num_stages)):
            for module in self.stage_modules(i):
                module.eval().requires_grad_(False)
            for extra in self.stage_extras(i):
                extra.requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def switch_to_deploy(self) -> None:
        """Merge every block's branches and BatchNorms in place; idempotent, the evaluated function stays the same.

        Norms of stem, downsampling and outputs stay, unless a network says else.
        """
        for i, stage in enumerate(self.stages):
            for block in stage.children():
                cast(ResidualBlock, block).switch_to_deploy(*self.stage_extras(i))

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay, by ConvNeXt's rule.

        Args:
            param_name: Full name of the parameter.
            prefix: What stands before the backbone's own names, e.g. ``'backbone.'``.

        Returns:
            The depth, from 0 at the stem, and the number of layers; names outside the backbone get the last layer.
        """
        deepest = 12 if self.depths[-2] > 9 else 6
        parts = param_name.removeprefix(prefix).split('.')
        inside = param_name.startswith(prefix)
        if inside and parts[0] == 'downsample_layers':
            depth = (0, 2, 3, deepest)[int(parts[1])]
        elif inside and parts[0] in ('stages', 'pos_embeds'):
            stage, block = int(parts[1]), int(parts[2]) if parts[0] == 'stages' else 0
            depth = (1, 2, min(3 + block // 3, deepest), deepest)[stage]
        else:
            depth = deepest + 1
        return depth, deepest + 2

    def _resolve_arch(
        self, arch: str | Mapping[str, Sequence[int]], width_factor: float
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if isinstance(arch, str):
            if arch == 'resnet_widths':
                return (3, 3, 9, 3), (256, 512, 1024, 2048)
            if arch not in self.arch_settings:
                names = ', '.join([*self.arch_settings, 'resnet_widths'])
                raise ValueError(f'arch must be one of {names} or a dict, but got {arch!r}')
            arch = self.arch_settings[arch]
        if not isinstance(arch, Mapping) or set(arch) != {'depths', 'channels'}:
            raise ValueError(f'arch must be a name or dict(depths=..., channels=...), but got {arch!r}')
        for name in ('depths', 'channels'):
            check_sequence(f'{name} of arch', arch[name])
            for value in arch[name]:
                check_int(f'every entry of {name} of arch', value, 1)
        if not len(arch['depths']) == len(arch['channels']) == 4:
            raise ValueError(
                f'depths and channels of arch must have one entry for each of the 4 stages, but got {arch!r}'
            )
        check_number('width_factor', width_factor)
        if width_factor <= 0:
            raise ValueError(f'width_factor must be positive, but got {width_factor}')
        # the tolerance keeps an exact product, 110 * 1.1 say, from being truncated one short
        channels = tuple(int(width * width_factor + 1e-6) for width in arch['channels'])
        if min(channels) < 1:
            raise ValueError(f'width_factor={width_factor} leaves a stage of {arch!r} without channels')
        return tuple(arch['depths']), channels

    def _resolve_out_indices(self, out_indices: int | Sequence[int]) -> tuple[int, ...]:
        if not isinstance(out_indices, int):
            check_sequence('out_indices', out_indices)
        indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        for index in indices:
            check_int('every entry of out_indices', index)
            if not -self.num_stages <= index < self.num_stages:
                raise ValueError(
                    f'out_indices must lie in -{self.num_stages}..{self.num_stages - 1}, but got {out_indices}'
                )
        resolved = tuple(index % self.num_stages for index in indices)
        if not resolved or len(set(resolved)) < len(resolved):
            raise ValueError(f'out_indices must name at least one stage, none of them twice, but got {out_indices}')
        return resolved


class _SameSizeConv2d(nn.Conv2d):
    """2 x 2 at stride 1, with a row and a column of zeros behind the last: ``padding='same'`` without its warning."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


def check_strides(strides: Sequence[int]) -> tuple[int, ...]:
    """The stride before each stage.

    Raises:
        TypeError, ValueError: Not 4 and then three times 1 or 2.
    """
    check_sequence('strides', strides)
    if len(strides) != 4 or strides[0] != 4 or any(stride not in (1, 2) for stride in strides[1:]):
        raise ValueError(f'strides must be 4 and then three of 1 or 2, but got {strides!r}')
    return tuple(strides)


def check_kernel_sizes(kernel_sizes: Sequence[int]) -> tuple[int, ...]:
    """The kernel size of each stage.

    Raises:
        TypeError, ValueError: Not four odd positive numbers.
    """
    check_sequence('kernel_sizes', kernel_sizes)
    if len(kernel_sizes) != 4:
        raise ValueError(f'kernel_sizes must have one entry for each of the 4 stages, but got {kernel_sizes!r}')
    for size in kernel_sizes:
        check_odd('every entry of kernel_sizes', size)
    return tuple(kernel_sizes)
