"""Parameters of WTConvNeXt, WBMM and UniConvNet with their classifiers, to the digit."""

import pytest
import torch

from pelk_mm.models import UniConvNet, WBMMNet, WTConvNeXt

PUBLISHED = [
    (WTConvNeXt, 'tiny', {}, 30_383_656),
    (WTConvNeXt, 'small', {}, 54_015_784),
    (WTConvNeXt, 'base', {}, 93_647_592),
    (WBMMNet, 'pico', {}, 10_659_912),
    (WBMMNet, 'nano', {}, 18_169_600),
    (WBMMNet, 'tiny', {}, 31_071_180),
    (WBMMNet, 'small', {}, 55_710_016),
    (WBMMNet, 'tiny', {'windows_in_first_stage': True}, 31_096_780),
    (WBMMNet, 'small', {'windows_in_first_stage': True}, 55_740_736),
    (UniConvNet, 'atto', {}, 3_406_732),
    (UniConvNet, 'pico0', {}, 5_178_864),
    (UniConvNet, 'pico1', {}, 6_093_960),
    (UniConvNet, 'pico2', {}, 7_590_300),
    (UniConvNet, 'nano0', {}, 10_253_506),
    (UniConvNet, 'nano1', {}, 13_092_286),
    (UniConvNet, 'nano2', {}, 15_036_745),
    (UniConvNet, 'nano3', {}, 19_694_569),
    (UniConvNet, 'tiny', {}, 30_325_652),
    (UniConvNet, 'small', {}, 50_025_735),
    (UniConvNet, 'base', {}, 97_659_176),
    (UniConvNet, 'large', {}, 201_952_670),
    (UniConvNet, 'xlarge', {}, 226_703_870),
]


@pytest.mark.parametrize(('network', 'arch', 'kwargs', 'parameters'), PUBLISHED)
def test_parameters(network, arch, kwargs, parameters):
    with torch.device('meta'):
        net = network(arch, **kwargs)
    head = 1000 * net.channels[-1] + 1000
    assert sum(parameter.numel() for parameter in net.parameters()) + head == parameters


def kinds(net):
    return [''.join('D' if block.mixer.kernel_size == 3 else 'W' for block in stage) for stage in net.stages]


@pytest.mark.parametrize(
    ('arch', 'kwargs', 'plan'),
    [
        ('pico', {}, ['DD', 'WD', 'WD' * 3, 'WW']),
        ('nano', {}, ['DD', 'WD', 'WD' * 4, 'WW']),
        ('tiny', {}, ['DDD', 'WDW', 'WD' * 9, 'WWW']),
        ('small', {'windows_in_first_stage': True}, ['WDW', 'WDW', 'WDD' * 9, 'WWW']),
    ],
)
def test_plan_of_wbmm(arch, kwargs, plan):
    with torch.device('meta'):
        net = WBMMNet(arch, **kwargs)
    assert kinds(net) == plan
    parallel = [block.mixer.parallel_kernels for block in net.stages[3]]
    assert set(parallel) == {(5, 3) if arch in ('pico', 'nano') else ()}


def test_levels_of_wtconvnext():
    with torch.device('meta'):
        net = WTConvNeXt('tiny')
    assert [[block.mixer.levels for block in stage] for stage in net.stages] == [[5] * 3, [4] * 3, [3] * 9, [2] * 3]


@pytest.mark.parametrize(
    ('network', 'kwargs', 'error', 'message'),
    [
        (WTConvNeXt, {'wavelet_levels': (1, 2, 3)}, ValueError, 'wavelet_levels must have one entry for each of the 4'),
        (WTConvNeXt, {'wavelet_levels': (1, 2, 3, -1)}, ValueError, 'every entry of wavelet_levels must be .* got -1'),
        (WTConvNeXt, {'kernel_size': 4}, ValueError, 'kernel_size must be odd and positive, but got 4'),
        (WBMMNet, {'window_size': 0}, ValueError, 'window_size must be .* but got 0'),
        (WBMMNet, {'window_size': (7, 7)}, ValueError, r'window_size must be an int or one for each .* got \(7, 7\)'),
        (WBMMNet, {'windows_in_first_stage': 1}, TypeError, 'windows_in_first_stage'),
        (WBMMNet, {'parallel_kernels': (5, 5)}, ValueError, r'parallel_kernels must be different, .* got \(5, 5\)'),
        (WBMMNet, {'parallel_kernels': (15,)}, ValueError, 'and at most 13 for window_size=7'),
        (UniConvNet, {'group_width': 5}, ValueError, r'group_width must divide the channels of every stage, .* got 5'),
        (
            UniConvNet,
            {'arch': 'huge'},
            ValueError,
            'arch must be one of atto, pico0, .* xlarge, resnet_widths or a dict',
        ),
        (
            UniConvNet,
            {'arch': {'depths': (1, 1, 1, 1), 'channels': (6, 8, 8, 8)}, 'group_width': 2},
            ValueError,
            'channels of a receptive field aggregator must be a multiple of 4, but got 6',
        ),
    ],
)
def test_bad_arguments(network, kwargs, error, message):
    with torch.device('meta'), pytest.raises(error, match=message):
        network(**kwargs)
