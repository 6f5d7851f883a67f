"""WTConv and WTConvNeXt (BGU-CS-VIL/WTConv, arXiv 2407.05848).

As ``authors_nets.py`` has the others.
"""

import torch
from authors_nets import MadeUp, conv, count, layer_norm, linear, pointwise, same_conv
from torch.nn import functional as F


def haar_filters(channels):
    """Four 2x2 filters a channel, (4 C, 1, 2, 2): sum, top minus bottom, left minus right, diagonal."""
    low = torch.tensor([0.70710677, 0.70710677])
    high = torch.tensor([0.70710677, -0.70710677])
    filters = [torch.outer(rows, columns) for columns in (low, high) for rows in (low, high)]
    return torch.stack(filters)[:, None].repeat(channels, 1, 1, 1)


def wtconvnext_state(depths, channels, levels=(5, 4, 3, 2), kernel=5, classes=3, seed=0):
    """In timm's layout; ``levels``: of each stage."""
    state = MadeUp(seed)
    for i, (depth, width) in enumerate(zip(depths, channels, strict=True)):
        if i == 0:
            state.layer('stem.0', width, 3, 4, 4)
            state.norm('stem.1', width, batch=False)
        else:
            state.norm(f'stages.{i}.downsample.0', channels[i - 1], batch=False)
            state.layer(f'stages.{i}.downsample.1', width, channels[i - 1], 2, 2)
        for b in range(depth):
            block = f'stages.{i}.blocks.{b}.'
            name = f'{block}conv_dw'
            state[f'{name}.wt_filter'] = haar_filters(width)
            state[f'{name}.iwt_filter'] = haar_filters(width)
            state.layer(f'{name}.base_conv', width, 1, kernel, kernel)
            state[f'{name}.base_scale.weight'] = 0.5 + torch.rand(1, width, 1, 1, generator=state.generator)
            for level in range(levels[i]):
                state.layer(f'{name}.wavelet_convs.{level}', 4 * width, 1, kernel, kernel, bias=False)
                scale = 0.1 + 0.4 * torch.rand(1, 4 * width, 1, 1, generator=state.generator)
                state[f'{name}.wavelet_scale.{level}.weight'] = scale
            state.norm(f'{block}norm', width, batch=False)
            state.layer(f'{block}mlp.fc1', 4 * width, width)
            state.layer(f'{block}mlp.fc2', width, 4 * width)
            state.add(f'{block}gamma', width)
    state.norm('head.norm', channels[-1], batch=False)
    state.layer('head.fc', classes, channels[-1])
    return dict(state)


def as_mmseg(state):
    """The same weights without the head, in the layout of the authors' backbone for mmseg."""
    renamed = {}
    for key, value in state.items():
        if key.startswith('head.'):
            continue
        parts = key.split('.')
        if parts[0] == 'stem':
            parts[:1] = ['downsample_layers', '0']
        elif parts[2] == 'downsample':
            parts[:3] = ['downsample_layers', parts[1]]
        else:  # stages.{i}.blocks.{b}.
            del parts[2]
            if parts[3] == 'conv_dw':
                parts[3] = 'depthwise_conv'
            elif parts[3] == 'mlp':
                parts[3:5] = [{'fc1': 'pointwise_conv1', 'fc2': 'pointwise_conv2'}[parts[4]]]
        renamed['.'.join(['backbone', *parts])] = value
    return renamed


def wavelet(state, name, x):
    """The operator: a convolution of the map and one of the four parts of each Haar level, summed up."""
    channels, levels = x.shape[1], count(state, f'{name}.wavelet_convs.')
    sizes, filtered, current = [], [], x
    for level in range(levels):
        sizes.append(current.shape[2:])
        current = F.pad(current, (0, current.shape[3] % 2, 0, current.shape[2] % 2))
        parts = F.conv2d(current, state[f'{name}.wt_filter'], stride=2, groups=channels)
        scale = state[f'{name}.wavelet_scale.{level}.weight']
        filtered.append(scale * same_conv(state, f'{name}.wavelet_convs.{level}', parts))
        current = parts[:, 0::4]  # unfiltered
    below = torch.zeros_like(current)
    for level in reversed(range(levels)):
        parts = filtered[level].unflatten(1, (channels, 4))
        parts = torch.cat([parts[:, :, :1] + below[:, :, None], parts[:, :, 1:]], dim=2).flatten(1, 2)
        below = F.conv_transpose2d(parts, state[f'{name}.iwt_filter'], stride=2, groups=channels)
        below = below[:, :, : sizes[level][0], : sizes[level][1]]
    return state[f'{name}.base_scale.weight'] * same_conv(state, f'{name}.base_conv', x) + below


def wtconvnext(state, x):
    x = layer_norm(state, 'stem.1', conv(state, 'stem.0', x, stride=4))
    for i in range(4):
        if i > 0:
            name = f'stages.{i}.downsample'
            x = conv(state, f'{name}.1', layer_norm(state, f'{name}.0', x), stride=2)
        for b in range(count(state, f'stages.{i}.blocks.')):
            block = f'stages.{i}.blocks.{b}.'
            y = layer_norm(state, f'{block}norm', wavelet(state, f'{block}conv_dw', x))
            y = pointwise(state, f'{block}mlp.fc2', F.gelu(pointwise(state, f'{block}mlp.fc1', y)))
            x = x + state[f'{block}gamma'][:, None, None] * y
    features = layer_norm(state, 'head.norm', x.mean((2, 3)))
    return features, linear(state, 'head.fc', features)
