"""UniConvNet (ai-paperwithcode/UniConvNet, arXiv 2508.09000).

As ``authors_nets.py`` has the others.
"""

import torch
from authors_nets import MadeUp, classify, conv, count, layer_norm, linear, pointwise, same_conv
from torch.nn import functional as F

KERNEL_SIZES = {1: 7, 2: 9, 3: 11}


def add_aggregator(state, name, width):
    quarter = width // 4
    for i, size in KERNEL_SIZES.items():
        inner = i * quarter
        state.norm(f'{name}.norm{i}', width if i == 1 else inner, batch=False)
        state.layer(f'{name}.a{i}.0', inner, inner, 1, 1)
        state.layer(f'{name}.a{i}.2', inner, 1, size, size)
        state.layer(f'{name}.v{i}', inner, inner, 1, 1)
        state.layer(f'{name}.v{i}1', inner, inner, 1, 1)
        state.layer(f'{name}.v{i}2', quarter, quarter, 1, 1)
        state.layer(f'{name}.conv3_{i}', quarter, 1, 3, 3)
        if i > 1:
            state.layer(f'{name}.proj{i}', quarter, inner, 1, 1)


def add_dcn(state, name, width, groups):
    """Offsets of a pixel or two."""
    state.layer(f'{name}.dw_conv.0', width, 1, 3, 3)
    state.layer(f'{name}.offset', 18 * groups, width, bias=False)
    state.add(f'{name}.offset.bias', 18 * groups)
    state.layer(f'{name}.mask', 9 * groups, width, bias=False)
    state.add(f'{name}.mask.bias', 9 * groups, fan_in=4)
    state.layer(f'{name}.input_proj', width, width)
    state.layer(f'{name}.output_proj', width, width)


def uniconvnet_state(depths, channels, group_width=16, classes=3, seed=0):
    """``group_width``: the channels of a group in the deformable convolutions."""
    state = MadeUp(seed)
    for i, (depth, width) in enumerate(zip(depths, channels, strict=True)):
        if i == 0:
            state.layer('downsample_layers.0.0', width // 2, 3, 3, 3)
            state.norm('downsample_layers.0.1', width // 2, batch=False)
            state.layer('downsample_layers.0.3', width, width // 2, 3, 3)
            state.norm('downsample_layers.0.4', width, batch=False)
        else:
            state.norm(f'downsample_layers.{i}.0', channels[i - 1], batch=False)
            state.layer(f'downsample_layers.{i}.1', width, channels[i - 1], 3, 3)
        for b in range(depth):
            block = f'stages.{i}.{b}.'
            add_aggregator(state, f'{block}attn', width)
            add_dcn(state, f'{block}dcn', width, width // group_width)
            for norm in ('norm1.0', 'norm2.0'):
                state.norm(f'{block}{norm}', width, batch=False)
            state.layer(f'{block}mlp.fc1', 4 * width, width)
            state.layer(f'{block}mlp.fc2', width, 4 * width)
            for scale in ('layer_scale', 'gamma1', 'gamma2'):
                state[f'{block}{scale}'] = 0.25 + 0.5 * torch.rand(width, generator=state.generator)
    state.norm('norm', channels[-1], batch=False)
    state.layer('head', classes, channels[-1])
    return dict(state)


def aggregate(state, name, x):
    """The receptive field aggregator: quarters of the channels, taken in one after the other."""
    u = layer_norm(state, f'{name}.norm1', x).chunk(4, dim=1)
    z = u[0]
    for i in KERNEL_SIZES:
        if i > 1:
            z = layer_norm(state, f'{name}.norm{i}', z)
        a = same_conv(state, f'{name}.a{i}.2', F.gelu(conv(state, f'{name}.a{i}.0', z)))
        m = conv(state, f'{name}.v{i}1', a * conv(state, f'{name}.v{i}', z))
        s = same_conv(state, f'{name}.conv3_{i}', conv(state, f'{name}.v{i}2', u[i]))
        s = s + (a if i == 1 else conv(state, f'{name}.proj{i}', a))
        z = torch.cat([s, m], dim=1)
    return z


def bilinear(value, x, y):
    """``value``, (N, H, W, G, c), at the places ``x`` and ``y``, (N, H, W, G), with zeros around the map."""
    height, width = value.shape[1:3]
    pixels = value.flatten(1, 2)  # (N, H W, G, c)
    left, top = x.floor(), y.floor()
    total = 0
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        share = (1 - (x - column).abs()) * (1 - (y - row).abs())
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        index = index.flatten(1, 2)[..., None].expand(-1, -1, -1, value.shape[-1])
        total = total + pixels.gather(1, index).view(value.shape) * (share * inside)[..., None]
    return total


def dcn(state, name, x):
    """The deformable convolution, on (N, H, W, C)."""
    n, height, width, channels = x.shape
    groups = len(state[f'{name}.mask.bias']) // 9
    value = linear(state, f'{name}.input_proj', x).view(n, height, width, groups, channels // groups)
    t = same_conv(state, f'{name}.dw_conv.0', x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    offset = linear(state, f'{name}.offset', t).view(n, height, width, groups, 9, 2)
    mask = linear(state, f'{name}.mask', t).view(n, height, width, groups, 9)
    i = torch.arange(height)[:, None, None].to(x)
    j = torch.arange(width)[None, :, None].to(x)
    total = 0
    for p in range(9):  # column by column
        dx, dy = p // 3 - 1, p % 3 - 1
        place_x, place_y = j + dx + offset[..., p, 0], i + dy + offset[..., p, 1]
        total = total + mask[..., p, None] * bilinear(value, place_x, place_y)
    return linear(state, f'{name}.output_proj', total.flatten(3))


def block_forward(state, block, x):
    x = x + state[f'{block}layer_scale'][:, None, None] * aggregate(state, f'{block}attn', x)
    y = layer_norm(state, f'{block}norm1.0', x).permute(0, 2, 3, 1)
    x = x + state[f'{block}gamma1'][:, None, None] * dcn(state, f'{block}dcn', y).permute(0, 3, 1, 2)
    y = pointwise(state, f'{block}mlp.fc1', layer_norm(state, f'{block}norm2.0', x))
    return x + state[f'{block}gamma2'][:, None, None] * pointwise(state, f'{block}mlp.fc2', F.gelu(y))


def uniconvnet_stages(state, x):
    """The outputs of the four stages, (N, C, H, W)."""
    outputs = []
    for i in range(4):
        name = f'downsample_layers.{i}'
        if i == 0:
            x = layer_norm(state, f'{name}.1', conv(state, f'{name}.0', x, stride=2, padding=1))
            x = layer_norm(state, f'{name}.4', conv(state, f'{name}.3', F.gelu(x), stride=2, padding=1))
        else:
            x = conv(state, f'{name}.1', layer_norm(state, f'{name}.0', x), stride=2, padding=1)
        for b in range(count(state, f'stages.{i}.')):
            x = block_forward(state, f'stages.{i}.{b}.', x)
        outputs.append(x)
    return outputs


def uniconvnet(state, x):
    return classify(state, uniconvnet_stages(state, x)[-1])
