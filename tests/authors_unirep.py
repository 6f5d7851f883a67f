"""UniRepLKNet (AILab-CVC/UniRepLKNet, unireplknet.py) and ShiftWise v2 (lidc54/shift-wiseConv, SW_v2_unirep.py).

As ``authors_nets.py`` has the others.
"""

import numpy as np
import torch
from authors_nets import MadeUp, batch_norm, classify, conv, count, layer_norm, pointwise, same_conv
from torch.nn import functional as F

DILATED_BRANCHES = {13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)), 9: ((5, 1), (5, 2), (3, 3), (3, 4))}


def unirep_skeleton(depths, channels, classes, add_mixer):
    state = MadeUp()
    for i, (depth, width) in enumerate(zip(depths, channels, strict=True)):
        if i == 0:
            state.layer('downsample_layers.0.0', width // 2, 3, 3, 3)
            state.norm('downsample_layers.0.1', width // 2, batch=False)
            state.layer('downsample_layers.0.3', width, width // 2, 3, 3)
            state.norm('downsample_layers.0.4', width, batch=False)
        else:
            state.layer(f'downsample_layers.{i}.0', width, channels[i - 1], 3, 3)
            state.norm(f'downsample_layers.{i}.1', width, batch=False)
        for b in range(depth):
            block = f'stages.{i}.{b}.'
            add_mixer(state, block, i, b, width)
            state.norm(f'{block}norm', width)
            state.layer(f'{block}se.down', width // 4, width, 1, 1)
            state.layer(f'{block}se.up', width, width // 4, 1, 1)
            state.layer(f'{block}pwconv1.1', 4 * width, width)
            state.add(f'{block}act.1.gamma', 1, 1, 1, 4 * width)
            state.add(f'{block}act.1.beta', 1, 1, 1, 4 * width)
            state.layer(f'{block}pwconv2.0', width, 4 * width, bias=False)
            state.norm(f'{block}pwconv2.2', width)
            state.add(f'{block}gamma', width, fan_in=4)
    state.norm('norm', channels[-1], batch=False)
    state.layer('head', classes, channels[-1])
    return dict(state)


def unirep_forward(state, x, mix):
    for i in range(4):
        name = f'downsample_layers.{i}'
        x = layer_norm(state, f'{name}.1', conv(state, f'{name}.0', x, stride=2, padding=1))
        if i == 0:
            x = layer_norm(state, f'{name}.4', conv(state, f'{name}.3', F.gelu(x), stride=2, padding=1))
        for b in range(count(state, f'stages.{i}.')):
            block = f'stages.{i}.{b}.'
            y = batch_norm(state, f'{block}norm', mix(state, block, i, x))
            gate = conv(state, f'{block}se.up', conv(state, f'{block}se.down', y.mean((2, 3), keepdim=True)).clamp(0))
            y = F.gelu(pointwise(state, f'{block}pwconv1.1', y * torch.sigmoid(gate)))
            response = y.square().sum((2, 3), keepdim=True).sqrt()
            response = response / (response.mean(1, keepdim=True) + 1e-6)
            gamma, beta = (state[f'{block}act.1.{part}'].view(-1, 1, 1) for part in ('gamma', 'beta'))
            y = gamma * (y * response) + beta + y
            y = torch.einsum('nchw,dc->ndhw', y, state[f'{block}pwconv2.0.weight'])
            x = x + state[f'{block}gamma'][:, None, None] * batch_norm(state, f'{block}pwconv2.2', y)
    return classify(state, x)


def unireplknet_state(depths, channels, kernel_sizes, classes=3):
    """``kernel_sizes``: of each block of each stage."""

    def add_mixer(state, block, stage, b, width):
        size = kernel_sizes[stage][b]
        if size < 7:
            state.layer(f'{block}dwconv', width, 1, size, size, bias=False)
            return
        state.layer(f'{block}dwconv.lk_origin', width, 1, size, size, bias=False)
        state.norm(f'{block}dwconv.origin_bn', width)
        for kernel, rate in DILATED_BRANCHES[size]:
            state.layer(f'{block}dwconv.dil_conv_k{kernel}_{rate}', width, 1, kernel, kernel, bias=False)
            state.norm(f'{block}dwconv.dil_bn_k{kernel}_{rate}', width)

    return unirep_skeleton(depths, channels, classes, add_mixer)


def unireplknet(state, x):
    def mix(state, block, stage, x):
        name = f'{block}dwconv'
        if f'{name}.weight' in state:
            return same_conv(state, name, x)
        y = batch_norm(state, f'{name}.origin_bn', same_conv(state, f'{name}.lk_origin', x))
        for kernel, rate in DILATED_BRANCHES[state[f'{name}.lk_origin.weight'].shape[-1]]:
            branch = same_conv(state, f'{name}.dil_conv_k{kernel}_{rate}', x, dilation=rate)
            y = y + batch_norm(state, f'{name}.dil_bn_k{kernel}_{rate}', branch)
        return y

    return unirep_forward(state, x, mix)


def shiftwise_state(depths, channels, classes=3, kernel_sizes=(51, 49, 47, 13), size=3, paths=2, ghost_ratio=0.23):
    """``size``: N of the small filters. Without ``paths``: one, in its merged form."""

    def add_mixer(state, block, stage, b, width):
        convolved = int(width * (1 - ghost_ratio)) // 2 * 2
        groups = -(-kernel_sizes[stage] // size)
        for name in [f'LoRAs.{q}' for q in range(paths)] or ['LoRA']:
            state.layer(f'{block}large_kernel.{name}', convolved * groups, 1, size, size, bias=False)
        for name in ('bn_lora1', 'bn_lora2', 'bn_small'):
            state.norm(f'{block}large_kernel.{name}', convolved)

    return unirep_skeleton(depths, channels, classes, add_mixer)


def shiftwise(state, x, kernel_sizes=(51, 49, 47, 13), edges=4):
    def mix(state, block, stage, x):
        name = f'{block}large_kernel'
        convolved = len(state[f'{name}.bn_lora1.weight'])
        # the authors' tables: both global generators set to 123 in every module
        ghosts = sorted(np.random.RandomState(123).choice(x.shape[1], x.shape[1] - convolved, replace=False).tolist())
        x, passed = x[:, [c for c in range(x.shape[1]) if c not in ghosts]], x[:, ghosts]
        size = next(state[key] for key in state if key.startswith(f'{name}.LoRA')).shape[-1]
        groups = -(-kernel_sizes[stage] // size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(123)
            horizontal, vertical = (
                [torch.stack([torch.randperm(groups) for _ in range(convolved)]) for _ in range(edges)]
                for _ in range(2)
            )
            identity = [torch.randint(0, groups, [convolved]) for _ in range(edges)]
        # the full correlation, (N, C_r, g, H + N - 1, W + N - 1), amid zeros enough for every shift
        u = sum(
            F.conv2d(x, state[key], padding=size - 1, groups=convolved)
            for key in state
            if key.startswith(f'{name}.LoRA')
        ).unflatten(1, (convolved, groups))
        margin, e = kernel_sizes[stage] + size, size - 1 - size // 2
        u = F.pad(u, (margin,) * 4)
        (height, width), every = x.shape[2:], torch.arange(convolved)

        def window(group, top, left):
            return u[:, every, group, margin + top : margin + top + height, margin + left : margin + left + width]

        rows = columns = middle = 0
        for r in range(edges):
            middle = middle + window(identity[r], e, e)
            for i in range(groups):
                shift = kernel_sizes[stage] // 2 - i * size - (size - 1)
                rows = rows + window(horizontal[r][:, i], e, -shift)
                columns = columns + window(vertical[r][:, i], -shift, e)
        branches = zip(('bn_lora1', 'bn_lora2', 'bn_small'), (rows, columns, middle), strict=True)
        return torch.cat([x + sum(batch_norm(state, f'{name}.{bn}', y) for bn, y in branches), passed], dim=1)

    return unirep_forward(state, x, mix)
