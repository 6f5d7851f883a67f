"""The authors' networks in plain torch, on state dicts in their published layouts, and such state dicts made up.

UniRepLKNet and ShiftWise are in ``authors_unirep.py``. A restatement takes a state dict and images and gives the
features before the classifier's linear layer, and its logits.
"""

import numpy as np
import torch
from torch.nn import functional as F


class MadeUp(dict):
    """A state dict of random weights; BatchNorms with statistics away from 0 and 1."""

    def __init__(self, seed=0):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def add(self, name, *shape, fan_in=1):
        self[name] = torch.randn(shape, generator=self.generator) / fan_in**0.5

    def layer(self, name, *shape, bias=True):
        """A convolution or a linear layer."""
        self.add(f'{name}.weight', *shape, fan_in=int(np.prod(shape[1:])))
        if bias:
            self.add(f'{name}.bias', shape[0], fan_in=25)

    def norm(self, name, channels, batch=True):
        self[f'{name}.weight'] = 0.5 + torch.rand(channels, generator=self.generator)
        self.add(f'{name}.bias', channels, fan_in=25)
        if batch:
            self.add(f'{name}.running_mean', channels, fan_in=25)
            self[f'{name}.running_var'] = 0.5 + torch.rand(channels, generator=self.generator)
            self[f'{name}.num_batches_tracked'] = torch.tensor(7)


def conv(state, name, x, **kwargs):
    return F.conv2d(x, state[f'{name}.weight'], state.get(f'{name}.bias'), **kwargs)


def same_conv(state, name, x, dilation=1):
    """A depthwise convolution that keeps the size."""
    padding = [dilation * (size // 2) for size in state[f'{name}.weight'].shape[2:]]
    return conv(state, name, x, padding=padding, dilation=dilation, groups=x.shape[1])


def linear(state, name, x):
    return F.linear(x, state[f'{name}.weight'], state.get(f'{name}.bias'))


def pointwise(state, name, x):
    """A linear layer over the channels of (N, C, H, W)."""
    return torch.einsum('nchw,dc->ndhw', x, state[f'{name}.weight']) + state[f'{name}.bias'][:, None, None]


def layer_norm(state, name, x):
    """Over dimension 1, whatever follows it."""
    x = x - x.mean(1, keepdim=True)
    x = x / torch.sqrt(x.square().mean(1, keepdim=True) + 1e-6)
    shape = (-1,) + (1,) * (x.ndim - 2)
    return x * state[f'{name}.weight'].view(shape) + state[f'{name}.bias'].view(shape)


def batch_norm(state, name, x):
    mean, var, weight, bias = (
        state[f'{name}.{part}'][:, None, None] for part in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def count(state, prefix):
    """How many numbered parts follow ``prefix``."""
    return len({key[len(prefix) :].split('.')[0] for key in state if key.startswith(prefix)})


def classify(state, x):
    """Pooling, LayerNorm and the linear head."""
    features = layer_norm(state, 'norm', x.mean((2, 3)))
    return features, linear(state, 'head', features)


# ConvNeXt (facebookresearch/ConvNeXt, models/convnext.py) and SLaK (VITA-Group/SLaK, models/SLaK.py)


def convnext_skeleton(depths, channels, classes, add_mixer):
    state = MadeUp()
    for i, (depth, width) in enumerate(zip(depths, channels, strict=True)):
        if i == 0:
            state.layer('downsample_layers.0.0', width, 3, 4, 4)
            state.norm('downsample_layers.0.1', width, batch=False)
        else:
            state.norm(f'downsample_layers.{i}.0', channels[i - 1], batch=False)
            state.layer(f'downsample_layers.{i}.1', width, channels[i - 1], 2, 2)
        for b in range(depth):
            block = f'stages.{i}.{b}.'
            add_mixer(state, block, i, width)
            state.norm(f'{block}norm', width, batch=False)
            state.layer(f'{block}pwconv1', 4 * width, width)
            state.layer(f'{block}pwconv2', width, 4 * width)
            state.add(f'{block}gamma', width)
    state.norm('norm', channels[-1], batch=False)
    state.layer('head', classes, channels[-1])
    return dict(state)


def convnext_state(depths, channels, classes=3):
    return convnext_skeleton(
        depths, channels, classes, lambda state, block, stage, width: state.layer(f'{block}dwconv', width, 1, 7, 7)
    )


def slak_state(depths, channels, classes=3, kernel_sizes=(51, 49, 47, 13), names=('LoRA1', 'LoRA2')):
    def add_mixer(state, block, stage, width):
        size = kernel_sizes[stage]
        for name, kernel in zip((*names, 'small_conv'), ((size, 5), (5, size), (5, 5)), strict=True):
            state.layer(f'{block}large_kernel.{name}.conv', width, 1, *kernel, bias=False)
            state.norm(f'{block}large_kernel.{name}.bn', width)

    return convnext_skeleton(depths, channels, classes, add_mixer)


def convnext_forward(state, x, mix):
    for i in range(4):
        norm, strided, stride = ('1', '0', 4) if i == 0 else ('0', '1', 2)
        name = f'downsample_layers.{i}.'
        if i > 0:
            x = layer_norm(state, name + norm, x)
        x = conv(state, name + strided, x, stride=stride)
        if i == 0:
            x = layer_norm(state, name + norm, x)
        for b in range(count(state, f'stages.{i}.')):
            block = f'stages.{i}.{b}.'
            y = layer_norm(state, f'{block}norm', mix(state, block, x))
            y = pointwise(state, f'{block}pwconv2', F.gelu(pointwise(state, f'{block}pwconv1', y)))
            x = x + state[f'{block}gamma'][:, None, None] * y
    return classify(state, x)


def convnext(state, x):
    return convnext_forward(state, x, lambda state, block, x: same_conv(state, f'{block}dwconv', x))


def slak(state, x, names=('LoRA1', 'LoRA2')):
    def mix(state, block, x):
        branches = (f'{block}large_kernel.{name}' for name in (*names, 'small_conv'))
        return sum(batch_norm(state, f'{name}.bn', same_conv(state, f'{name}.conv', x)) for name in branches)

    return convnext_forward(state, x, mix)


# InceptionNeXt (sail-sg/inceptionnext, models/inceptionnext.py)


def inceptionnext_state(depths, channels, classes=3):
    state = MadeUp()
    state.layer('stem.0', channels[0], 3, 4, 4)
    state.norm('stem.1', channels[0])
    for i, (depth, width) in enumerate(zip(depths, channels, strict=True)):
        if i > 0:
            state.norm(f'stages.{i}.downsample.0', channels[i - 1])
            state.layer(f'stages.{i}.downsample.1', width, channels[i - 1], 2, 2)
        for b in range(depth):
            block, hidden = f'stages.{i}.blocks.{b}.', (3 if i == 3 else 4) * width
            for name, kernel in (('hw', (3, 3)), ('w', (1, 11)), ('h', (11, 1))):
                state.layer(f'{block}token_mixer.dwconv_{name}', width // 8, 1, *kernel)
            state.norm(f'{block}norm', width)
            state.layer(f'{block}mlp.fc1', hidden, width, 1, 1)
            state.layer(f'{block}mlp.fc2', width, hidden, 1, 1)
            state.add(f'{block}gamma', width)
    state.layer('head.fc1', 3 * channels[-1], channels[-1])
    state.norm('head.norm', 3 * channels[-1], batch=False)
    state.layer('head.fc2', classes, 3 * channels[-1])
    return dict(state)


def inceptionnext(state, x):
    x = batch_norm(state, 'stem.1', conv(state, 'stem.0', x, stride=4))
    for i in range(4):
        if i > 0:
            name = f'stages.{i}.downsample'
            x = conv(state, f'{name}.1', batch_norm(state, f'{name}.0', x), stride=2)
        for b in range(count(state, f'stages.{i}.blocks.')):
            block, width = f'stages.{i}.blocks.{b}.', x.shape[1] // 8
            parts = x.split([x.shape[1] - 3 * width, width, width, width], dim=1)
            parts = [parts[0]] + [
                same_conv(state, f'{block}token_mixer.dwconv_{name}', part)
                for name, part in zip(('hw', 'w', 'h'), parts[1:], strict=True)
            ]
            y = batch_norm(state, f'{block}norm', torch.cat(parts, dim=1))
            y = conv(state, f'{block}mlp.fc2', F.gelu(conv(state, f'{block}mlp.fc1', y)))
            x = x + state[f'{block}gamma'][:, None, None] * y
    features = layer_norm(state, 'head.norm', F.gelu(linear(state, 'head.fc1', x.mean((2, 3)))))
    return features, linear(state, 'head.fc2', features)


# RepLKNet (DingXiaoH/RepLKNet-pytorch, replknet.py)


def replknet_state(depths, channels, kernel_sizes, small_kernel=5, dw_ratio=1, classes=3):
    state = MadeUp()

    def conv_bn(name, *shape):
        state.layer(f'{name}.conv', *shape, bias=False)
        state.norm(f'{name}.bn', shape[0])

    width = channels[0]
    for i, shape in enumerate(((width, 3, 3, 3), (width, 1, 3, 3), (width, width, 1, 1), (width, 1, 3, 3))):
        conv_bn(f'stem.{i}', *shape)
    for i, (depth, width) in enumerate(zip(depths, channels, strict=True)):
        inner = int(width * dw_ratio)
        for b in range(depth):
            block, ffn = (f'stages.{i}.blocks.{2 * b + part}.' for part in (0, 1))
            state.norm(f'{block}prelkb_bn', width)
            conv_bn(f'{block}pw1', inner, width, 1, 1)
            conv_bn(f'{block}large_kernel.lkb_origin', inner, 1, kernel_sizes[i], kernel_sizes[i])
            if small_kernel:
                conv_bn(f'{block}large_kernel.small_conv', inner, 1, small_kernel, small_kernel)
            conv_bn(f'{block}pw2', width, inner, 1, 1)
            state.norm(f'{ffn}preffn_bn', width)
            conv_bn(f'{ffn}pw1', 4 * width, width, 1, 1)
            conv_bn(f'{ffn}pw2', width, 4 * width, 1, 1)
        if i < 3:
            conv_bn(f'transitions.{i}.0', channels[i + 1], width, 1, 1)
            conv_bn(f'transitions.{i}.1', channels[i + 1], 1, 3, 3)
    state.norm('norm', channels[-1])
    state.layer('head', classes, channels[-1])
    return dict(state)


def replknet(state, x):
    def conv_bn(name, x, stride=1):
        weight = state[f'{name}.conv.weight']
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=x.shape[1] // weight.shape[1])
        return batch_norm(state, f'{name}.bn', x)

    for i, stride in enumerate((2, 1, 1, 2)):
        x = conv_bn(f'stem.{i}', x, stride).clamp(0)
    for i in range(4):
        for b in range(0, count(state, f'stages.{i}.blocks.'), 2):
            block, ffn = (f'stages.{i}.blocks.{b + part}.' for part in (0, 1))
            y = conv_bn(f'{block}pw1', batch_norm(state, f'{block}prelkb_bn', x)).clamp(0)
            large = conv_bn(f'{block}large_kernel.lkb_origin', y)
            if f'{block}large_kernel.small_conv.conv.weight' in state:
                large = large + conv_bn(f'{block}large_kernel.small_conv', y)
            x = x + conv_bn(f'{block}pw2', large.clamp(0))
            y = F.gelu(conv_bn(f'{ffn}pw1', batch_norm(state, f'{ffn}preffn_bn', x)))
            x = x + conv_bn(f'{ffn}pw2', y)
        if i < 3:
            x = conv_bn(f'transitions.{i}.1', conv_bn(f'transitions.{i}.0', x).clamp(0), 2).clamp(0)
    features = batch_norm(state, 'norm', x).mean((2, 3))
    return features, linear(state, 'head', features)
