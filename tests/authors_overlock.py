"""OverLoCK (LMMMEng/OverLoCK, models/overlock.py, arXiv 2502.20087).

As ``authors_nets.py`` has the others, in eval mode; the states in training form or merged.
"""

import torch
from authors_nets import MadeUp, batch_norm, conv, count, layer_norm, same_conv
from torch.nn import functional as F

# (size, dilation) of the branches beside the K x K convolution
BRANCHES = {
    19: ((5, 1), (7, 1), (9, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    17: ((5, 1), (7, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    11: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4)),
    7: ((5, 1), (3, 1), (3, 2), (3, 3)),
    5: ((3, 1), (3, 2)),
}


class MadeUpOverLoCK(MadeUp):
    def pointwise(self, name, out_channels, in_channels, bias=True):
        self.layer(name, out_channels, in_channels, 1, 1, bias=bias)

    def residual_depthwise(self, name, channels):
        """Small: there is one on the trunk of every block, and a second one in the dynamic blocks."""
        self.add(f'{name}.weight', channels, 1, 3, 3, fan_in=100)
        self.add(f'{name}.bias', channels, fan_in=25)

    def conv_bn(self, prefix, conv, bn, *shape):
        self.layer(f'{prefix}{conv}', *shape, bias=False)
        self.norm(f'{prefix}{bn}', shape[0])

    def scale(self, name, channels):
        self[f'{name}.weight'] = 0.5 + 0.6 * torch.rand(channels, 1, 1, 1, generator=self.generator)
        self.add(f'{name}.bias', channels, fan_in=25)

    def grn(self, name, channels):
        self.add(f'{name}.gamma', 1, channels, 1, 1, fan_in=4)
        self.add(f'{name}.beta', 1, channels, 1, 1, fan_in=4)

    def squeeze_excite(self, name, channels):
        hidden = max(16, channels // 8)
        self.pointwise(f'{name}.proj.1', hidden, channels)
        self.pointwise(f'{name}.proj.3', channels, hidden)

    def dilated(self, name, channels, size):
        self.conv_bn(f'{name}.', 'lk_origin', 'origin_bn', channels, 1, size, size)
        for k, r in BRANCHES[size]:
            self.conv_bn(f'{name}.', f'dil_conv_k{k}_{r}', f'dil_bn_k{k}_{r}', channels, 1, k, k)

    def static_block(self, block, width, size, ratio, scaled):
        self.residual_depthwise(f'{block}dwconv', width)
        self.norm(f'{block}proj.0', width, batch=False)
        self.dilated(f'{block}proj.1', width, size)
        self.norm(f'{block}proj.2', width)
        self.squeeze_excite(f'{block}proj.3', width)
        self.pointwise(f'{block}proj.4', ratio * width, width)
        self.residual_depthwise(f'{block}proj.6', ratio * width)
        self.grn(f'{block}proj.7', ratio * width)
        self.pointwise(f'{block}proj.8', width, ratio * width)
        if scaled:
            self.scale(f'{block}ls', width)

    def dynamic_block(self, block, width, context, size, small, heads, ratio, first):
        both = width + context
        self.add(f'{block}rpb1', heads, 2 * small - 1, 2 * small - 1)
        self.add(f'{block}rpb2', heads, 2 * size - 1, 2 * size - 1)
        if not first:
            self.scale(f'{block}x_scale', context)
            self.scale(f'{block}h_scale', context)
        self.residual_depthwise(f'{block}dwconv1', both)
        self.norm(f'{block}norm1', both, batch=False)
        self.layer(f'{block}fusion.0', both, 1, 3, 3)
        self.norm(f'{block}fusion.1', both)
        self.pointwise(f'{block}fusion.3', width, both)
        self.grn(f'{block}fusion.4', width)
        self.conv_bn(block, 'weight_query.0', 'weight_query.1', width // 2, width, 1, 1)
        self.conv_bn(block, 'weight_key.1', 'weight_key.2', width // 2, context, 1, 1)
        self.add(f'{block}weight_proj.weight', small**2 + size**2, 49, 1, 1, fan_in=2)  # so that the images matter
        self.add(f'{block}weight_proj.bias', small**2 + size**2)
        self.conv_bn(block, 'dyconv_proj.0', 'dyconv_proj.1', width, width, 1, 1)
        self.dilated(f'{block}lepe.0', width, size)
        self.norm(f'{block}lepe.1', width)
        self.squeeze_excite(f'{block}se_layer', width)
        self.conv_bn(block, 'gate.0', 'gate.1', width, width, 1, 1)
        self.norm(f'{block}proj.0', width)
        self.pointwise(f'{block}proj.1', both, width)
        self.residual_depthwise(f'{block}dwconv2', both)
        self.norm(f'{block}norm2', both, batch=False)
        self.pointwise(f'{block}mlp.0', ratio * width, both)
        self.residual_depthwise(f'{block}mlp.2', ratio * width)
        self.grn(f'{block}mlp.3', ratio * width)
        self.pointwise(f'{block}mlp.4', both, ratio * width)
        self.scale(f'{block}ls1', both)
        self.scale(f'{block}ls2', both)


def overlock_state(
    depths,
    sub_depths,
    channels,
    kernel_sizes,
    sub_heads,
    mlp_ratio=4,
    focus_mlp_ratio=3,
    small_kernel=5,
    classes=3,
    dense=None,
    seed=0,
):
    """``dense``: None for the classifier, else 'segmentation' or 'detection'."""
    state = MadeUpOverLoCK(seed)
    context = channels[3] // 4
    half, full = channels[0] // 2, channels[0]
    for i, (width, before) in enumerate(((half, 3), (half, half), (full, half), (full, full))):
        state.conv_bn('patch_embed1.', str(3 * i), str(3 * i + 1), width, before, 3, 3)
    for i in (1, 2, 3):
        state.conv_bn(f'patch_embed{i + 1}.', '0', '1', channels[i], channels[i - 1], 3, 3)
    state.pointwise('high_level_proj', context, channels[3])
    state.conv_bn('patch_embedx.x_proj.', '0', '1', channels[3], channels[2], 3, 3)
    state.conv_bn('patch_embedx.h_proj.', '0', '1', context, context, 3, 3)
    for i, depth in enumerate(depths):
        for b in range(depth):
            state.static_block(f'blocks{i + 1}.{b}.', channels[i], kernel_sizes[i], mlp_ratio, scaled=i >= 2)
    for i, depth, heads in zip((2, 3), sub_depths, sub_heads, strict=True):
        for b in range(depth):
            block, first = f'sub_blocks{i + 1}.{b}.', i == 2 and b == 0
            sizes = (channels[i], context, kernel_sizes[i], small_kernel, 2 * heads, focus_mlp_ratio)
            state.dynamic_block(block, *sizes, first=first)
    if dense is None:
        state.norm('aux_head.0', channels[3])
        state.pointwise('aux_head.2', classes, channels[3])
        state.conv_bn('head.', '0', '1', 1024, channels[3] + context, 1, 1)
        state.pointwise('head.4', classes, 1024)
        return dict(state)
    outputs = (channels[0], channels[1], channels[2] + context, channels[3] + context)
    for i, width in enumerate(outputs):
        state.norm(f'extra_norm.{i}', width, batch=False)
    if dense == 'detection':
        state.norm('extra_norm.4', channels[3], batch=False)
        state.pointwise('h_proj.0', outputs[3], channels[3])
        state.scale('h_proj.1', outputs[3])
    return dict(state)


def conv_bn(state, conv_name, bn_name, x, stride=1):
    padding = state[f'{conv_name}.weight'].shape[-1] // 2
    return batch_norm(state, bn_name, conv(state, conv_name, x, stride=stride, padding=padding))


def residual_depthwise(state, name, x):
    return x + same_conv(state, name, x)


def layer_scale(state, name, x):
    return state[f'{name}.weight'].view(-1, 1, 1) * x + state[f'{name}.bias'].view(-1, 1, 1)


def squeeze_excite(state, name, x):
    hidden = F.gelu(conv(state, f'{name}.proj.1', x.mean((2, 3), keepdim=True)))
    return x * torch.sigmoid(conv(state, f'{name}.proj.3', hidden))


def grn(state, name, x):
    response = x.square().sum((2, 3), keepdim=True).sqrt()
    response = response / (response.mean(1, keepdim=True) + 1e-6)
    return state[f'{name}.gamma'] * (x * response) + state[f'{name}.beta'] + x


def dilated(state, name, x):
    y = same_conv(state, f'{name}.lk_origin', x)
    if f'{name}.origin_bn.weight' not in state:
        return y
    y = batch_norm(state, f'{name}.origin_bn', y)
    for k, r in BRANCHES[state[f'{name}.lk_origin.weight'].shape[-1]]:
        branch = same_conv(state, f'{name}.dil_conv_k{k}_{r}', x, dilation=r)
        y = y + batch_norm(state, f'{name}.dil_bn_k{k}_{r}', branch)
    return y


def static_block(state, block, x):
    x = residual_depthwise(state, f'{block}dwconv', x)
    y = dilated(state, f'{block}proj.1', layer_norm(state, f'{block}proj.0', x))
    y = squeeze_excite(state, f'{block}proj.3', batch_norm(state, f'{block}proj.2', y))
    y = residual_depthwise(state, f'{block}proj.6', F.gelu(conv(state, f'{block}proj.4', y)))
    y = conv(state, f'{block}proj.8', grn(state, f'{block}proj.7', y))
    if f'{block}ls.weight' in state:
        x = layer_scale(state, f'{block}ls', x)
    return x + y


def window(size, kernel):
    """(size, kernel): the positions that each position's window takes; it never leaves the map."""
    start = (torch.arange(size) - kernel // 2).clamp(0, size - kernel)
    return start[:, None] + torch.arange(kernel)


def na2d(attention, value, kernel):
    """(B, g, H, W, kernel^2) and (B, g, H, W, c) to (B, g, H, W, c)."""
    rows, columns = window(value.shape[2], kernel), window(value.shape[3], kernel)
    taps = value[:, :, rows[:, None, :, None], columns[None, :, None, :]]
    return torch.einsum('bghwt,bghwtc->bghwc', attention, taps.flatten(4, 5))


def add_positions(attention, rpb):
    """``rpb``: (g, 2K - 1, 2K - 1); of a tap, by its offset from the pixel."""
    kernel = (rpb.shape[-1] + 1) // 2
    height, width = attention.shape[2:4]
    rows = window(height, kernel) - torch.arange(height)[:, None] + kernel - 1
    columns = window(width, kernel) - torch.arange(width)[:, None] + kernel - 1
    return attention + rpb[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3, 4)


def resize(x, size):
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)


def mix(state, block, z, f, width):
    """The dynamic convolutions of ``f`` (N, C, H, W), their weights from ``z`` (N, C + Ch, H, W)."""
    rpb1, rpb2 = state[f'{block}rpb1'], state[f'{block}rpb2']
    heads, small, kernel = len(rpb1), (rpb1.shape[-1] + 1) // 2, (rpb2.shape[-1] + 1) // 2
    height, columns = original = f.shape[2:]
    resized = min(original) < kernel
    if resized:
        if height < columns:
            size = (kernel, int(kernel / height * columns))
        else:
            size = (int(kernel / columns * height), kernel)
        f, z = resize(f, size), resize(z, size)
    query = conv_bn(state, f'{block}weight_query.0', f'{block}weight_query.1', z[:, :width])
    query = query * (width / heads) ** -0.5
    pooled = F.adaptive_avg_pool2d(z[:, width:], 7)
    key = conv_bn(state, f'{block}weight_key.1', f'{block}weight_key.2', pooled)
    query = query.unflatten(1, (heads, -1))
    key = key.unflatten(1, (heads, -1)).flatten(3)
    regions = torch.einsum('bgchw,bgcl->bghwl', query, key)
    projection = state[f'{block}weight_proj.weight'].flatten(1)
    attention = regions @ projection.T + state[f'{block}weight_proj.bias']
    first, second = attention.split([small**2, kernel**2], dim=-1)
    first = add_positions(first, rpb1).softmax(-1)
    second = add_positions(second, rpb2).softmax(-1)
    values = f.unflatten(1, (2, heads, -1)).movedim(3, -1)  # (B, 2, g, H, W, c)
    y = torch.cat([na2d(first, values[:, 0], small), na2d(second, values[:, 1], kernel)], dim=1)
    y = y.movedim(-1, 2).flatten(1, 2)
    if resized:
        y = F.adaptive_avg_pool2d(y, original)
    return y


def dynamic_block(state, block, x, h, h0):
    width = x.shape[1]
    if f'{block}x_scale.weight' in state:
        h = layer_scale(state, f'{block}x_scale', h) + layer_scale(state, f'{block}h_scale', h0)
    identity = residual_depthwise(state, f'{block}dwconv1', torch.cat([x, h], dim=1))
    z = layer_norm(state, f'{block}norm1', identity)
    f = F.gelu(batch_norm(state, f'{block}fusion.1', same_conv(state, f'{block}fusion.0', z)))
    f = grn(state, f'{block}fusion.4', conv(state, f'{block}fusion.3', f))
    gate = F.silu(conv_bn(state, f'{block}gate.0', f'{block}gate.1', f))
    lepe = batch_norm(state, f'{block}lepe.1', dilated(state, f'{block}lepe.0', f))
    y = mix(state, block, z, f, width)
    y = conv_bn(state, f'{block}dyconv_proj.0', f'{block}dyconv_proj.1', y) + lepe
    y = gate * squeeze_excite(state, f'{block}se_layer', y)
    y = conv(state, f'{block}proj.1', batch_norm(state, f'{block}proj.0', y))
    u = layer_scale(state, f'{block}ls1', identity) + y
    u = residual_depthwise(state, f'{block}dwconv2', u)
    y = F.gelu(conv(state, f'{block}mlp.0', layer_norm(state, f'{block}norm2', u)))
    y = grn(state, f'{block}mlp.3', residual_depthwise(state, f'{block}mlp.2', y))
    u = layer_scale(state, f'{block}ls2', u) + conv(state, f'{block}mlp.4', y)
    return u[:, :width], u[:, width:]


def static_stage(state, number, x):
    if number == 1:
        for i, stride in enumerate((2, 1, 2, 1)):
            x = conv_bn(state, f'patch_embed1.{3 * i}', f'patch_embed1.{3 * i + 1}', x, stride)
            x = F.gelu(x) if i < 3 else x
    else:
        x = conv_bn(state, f'patch_embed{number}.0', f'patch_embed{number}.1', x, 2)
    for b in range(count(state, f'blocks{number}.')):
        x = static_block(state, f'blocks{number}.{b}.', x)
    return x


def focus(state, x, overview):
    """[x, h] after either stage of the focus net."""
    h0 = conv(state, 'high_level_proj', overview)
    h = up = resize(h0, x.shape[2:])
    for b in range(count(state, 'sub_blocks3.')):
        x, h = dynamic_block(state, f'sub_blocks3.{b}.', x, h, up)
    third = torch.cat([x, h], dim=1)
    x = conv_bn(state, 'patch_embedx.x_proj.0', 'patch_embedx.x_proj.1', x, 2)
    h = conv_bn(state, 'patch_embedx.h_proj.0', 'patch_embedx.h_proj.1', h, 2)
    for b in range(count(state, 'sub_blocks4.')):
        x, h = dynamic_block(state, f'sub_blocks4.{b}.', x, h, h0)
    return third, torch.cat([x, h], dim=1)


def overlock(state, x):
    """The features before the classifier's last layer, the logits and the auxiliary logits."""
    for number in (1, 2, 3):
        x = static_stage(state, number, x)
    overview = static_stage(state, 4, x)
    features = F.silu(conv_bn(state, 'head.0', 'head.1', focus(state, x, overview)[1])).mean((2, 3))
    pooled = batch_norm(state, 'aux_head.0', overview).mean((2, 3))
    logits, auxiliary = (
        conv(state, name, y[:, :, None, None]).flatten(1) for name, y in (('head.4', features), ('aux_head.2', pooled))
    )
    return features, logits, auxiliary


def overlock_dense(state, x, normed_trunk=True):
    """Four outputs. ``normed_trunk``: as the authors', stage 3 reads the normed output of stage 2."""
    first = static_stage(state, 1, x)
    second = static_stage(state, 2, first)
    normed = layer_norm(state, 'extra_norm.1', second)
    x = static_stage(state, 3, normed if normed_trunk else second)
    overview = static_stage(state, 4, x)
    third, fourth = focus(state, x, overview)
    fourth = layer_norm(state, 'extra_norm.3', fourth)
    if 'extra_norm.4.weight' in state:
        projected = conv(state, 'h_proj.0', layer_norm(state, 'extra_norm.4', overview))
        fourth = fourth + layer_scale(state, 'h_proj.1', projected)
    return [layer_norm(state, 'extra_norm.0', first), normed, layer_norm(state, 'extra_norm.2', third), fourth]


def merge(state):
    """Every K x K convolution with its branches as one with a bias."""
    merged = {key: value for key, value in state.items() if '.origin_bn.' not in key and '.dil_' not in key}
    for key in state:
        if not key.endswith('.lk_origin.weight'):
            continue
        name, size = key[: -len('.lk_origin.weight')], state[key].shape[-1]
        weight, bias = torch.zeros_like(state[key]), 0
        for conv_name, bn_name, k, r in [('lk_origin', 'origin_bn', size, 1)] + [
            (f'dil_conv_k{k}_{r}', f'dil_bn_k{k}_{r}', k, r) for k, r in BRANCHES[size]
        ]:
            mean, var, gain, shift = (
                state[f'{name}.{bn_name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')
            )
            gain = gain / torch.sqrt(var + 1e-5)
            taps = size // 2 + r * (torch.arange(k) - k // 2)
            weight[:, :, taps[:, None], taps] += state[f'{name}.{conv_name}.weight'] * gain.view(-1, 1, 1, 1)
            bias = bias + shift - mean * gain
        merged[key], merged[f'{name}.lk_origin.bias'] = weight, bias
    return merged
