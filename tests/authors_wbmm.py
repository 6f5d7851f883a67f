"""WBMM (wansong-s/WBMM, arXiv 2607.02097): UniRepLKNet's network with other token mixers.

As ``authors_nets.py`` has the others; the states in training form or fused.
"""

import torch
from authors_nets import batch_norm, same_conv
from authors_unirep import unirep_forward, unirep_skeleton
from torch.nn import functional as F


def relative_index(window):
    """(d, d): where the table has the weight from pixel p (row) to pixel q (column) of a window."""
    pixel = torch.arange(window**2)
    y, x = pixel // window, pixel % window
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


def wbmm_state(depths, channels, plan, window=7, classes=3, seed=0):
    """``plan``: a letter for each block of each stage.

    W: a table, D: a 3x3 convolution, M: a table beside a 5x5 and a 3x3 convolution. ``seed`` is that of everything
    behind the stem.
    """

    def add_mixer(state, block, stage, b, width):
        if stage == b == 0:
            state.generator.manual_seed(seed)
        name, kind = f'{block}dwconv', plan[stage][b]
        if kind == 'D':
            state.layer(name, width, 1, 3, 3, bias=False)
            return
        state.add(f'{name}.relative_position_bias_table', width, (2 * window - 1) ** 2, fan_in=window**2)
        state[f'{name}.relative_position_index'] = relative_index(window)
        if kind == 'M':
            for size in (3, 5):
                state.layer(f'{name}.dwconv{size}', width, 1, size, size, bias=False)
            for bn in ('bn1', 'bn2', 'bn3'):
                state.norm(f'{name}.{bn}', width)

    return unirep_skeleton(depths, channels, classes, add_mixer)


def in_windows(operator, x, window):
    """``operator`` on every window of the map, which zeros at the bottom and the right fill up to whole windows."""
    height, width = x.shape[2:]
    x = F.pad(x, (0, -width % window, 0, -height % window))
    y = torch.zeros_like(x)
    for top in range(0, height, window):
        for left in range(0, width, window):
            cut = (..., slice(top, top + window), slice(left, left + window))
            y[cut] = operator(x[cut])
    return y[:, :, :height, :width]


def times_matrix(matrix, x, window):
    """``matrix``: (C, d, d), from pixel p to pixel q."""

    def multiply(part):
        return torch.einsum('ncp,cpq->ncq', part.flatten(2), matrix).reshape(part.shape)

    return in_windows(multiply, x, window)


def window_matmul(table, x, window):
    """The operator with its shortcut; ``table``: (C, (2 window - 1)^2)."""
    return times_matrix(table[:, relative_index(window)], x, window) + x


def table_window(table):
    """The window of a square table."""
    return (round(table.shape[1] ** 0.5) + 1) // 2


def mix_unfused(state, name, x, branches):
    table = state[f'{name}.relative_position_bias_table']
    window = table_window(table)
    y = window_matmul(table, x, window)
    if f'{name}.bn1.weight' not in state or (branches == 'exact' and x.shape[2:] != (window, window)):
        return y
    y = batch_norm(state, f'{name}.bn1', y)
    for bn, kernel in (('bn2', 'dwconv5'), ('bn3', 'dwconv3')):
        branch = in_windows(lambda part, kernel=kernel: same_conv(state, f'{name}.{kernel}', part), x, window)
        y = y + batch_norm(state, f'{name}.{bn}', branch)
    return y


def mix_fused(state, name, x):
    if f'{name}.R_fused' in state:
        table = state[f'{name}.R_fused']
        window = table_window(table)
        matrix = table[:, relative_index(window)]
    else:
        matrix = state[f'{name}.M_fused']
        window = round(matrix.shape[1] ** 0.5)
    return times_matrix(matrix, x, window) + state[f'{name}.bias_fused'][:, None, None]


def with_norms(state):
    """A fused state with BatchNorms that add the fused biases and do nothing else."""
    state = dict(state)
    for key in [key for key in state if key.endswith('.pwconv2.0.bias')]:
        block, bias = key.removesuffix('pwconv2.0.bias'), state[key]
        for norm, shift in (('norm', torch.zeros_like(bias)), ('pwconv2.2', bias)):
            state[f'{block}{norm}.weight'] = torch.ones_like(bias)
            state[f'{block}{norm}.bias'] = shift
            state[f'{block}{norm}.running_mean'] = torch.zeros_like(bias)
            state[f'{block}{norm}.running_var'] = torch.full_like(bias, 1 - 1e-5)
    return state


def wbmm(state, x, branches='window'):
    """``branches``: where an M block has its convolutions and the norm of its table.

    ``'window'``: inside each window. ``'exact'``, the authors' rule: only if the map is one whole window, otherwise
    skipped without a word. Fused states hold them at every size.
    """

    def mix(state, block, stage, x):
        name = f'{block}dwconv'
        if f'{name}.weight' in state:
            return same_conv(state, name, x)
        if f'{name}.bias_fused' in state:
            return mix_fused(state, name, x)
        return mix_unfused(state, name, x, branches)

    return unirep_forward(with_norms(state), x, mix)


def scale_shift(state, name):
    """A BatchNorm as a factor and a summand of each channel."""
    scale = state[f'{name}.weight'] / torch.sqrt(state[f'{name}.running_var'] + 1e-5)
    return scale, state[f'{name}.bias'] - scale * state[f'{name}.running_mean']


def fuse_table(state, name):
    """The table with everything in an unfused mixer, and its bias."""
    table = state[f'{name}.relative_position_bias_table'].clone()
    window = table_window(table)
    table[:, table.shape[1] // 2] += 1  # the shortcut
    if f'{name}.bn1.weight' not in state:
        return table, torch.zeros(len(table), dtype=table.dtype)
    scale, bias = scale_shift(state, f'{name}.bn1')
    table = scale[:, None] * table
    for bn, size in (('bn2', 5), ('bn3', 3)):
        scale, shift = scale_shift(state, f'{name}.{bn}')
        kernel = F.pad(state[f'{name}.dwconv{size}.weight'], (window - 1 - size // 2,) * 4)
        table, bias = table + scale[:, None] * kernel.flatten(1), bias + shift
    return table, bias


def fuse(state, dense=False):
    """In the authors' fused layout; ``dense``: with (C, d, d) matrices instead of tables."""
    fused = dict(state)
    for block in [key.removesuffix('pwconv2.0.weight') for key in state if key.endswith('.pwconv2.0.weight')]:
        name = f'{block}dwconv'
        for key in state:
            if key.startswith((f'{name}.', f'{block}norm.', f'{block}pwconv2.')):
                del fused[key]
        scale, shift = scale_shift(state, f'{block}norm')
        if f'{name}.weight' in state:
            fused[f'{name}.weight'] = scale[:, None, None, None] * state[f'{name}.weight']
            fused[f'{name}.bias'] = shift
        else:
            table, bias = fuse_table(state, name)
            table, index = scale[:, None] * table, state[f'{name}.relative_position_index']
            if dense:
                fused[f'{name}.M_fused'] = table[:, index]
            else:
                fused[f'{name}.R_fused'], fused[f'{name}.relative_position_index'] = table, index
            fused[f'{name}.bias_fused'] = scale * bias + shift
        scale, shift = scale_shift(state, f'{block}pwconv2.2')
        fused[f'{block}pwconv2.0.weight'] = scale[:, None] * state[f'{block}pwconv2.0.weight']
        fused[f'{block}pwconv2.0.bias'] = shift
    return fused
