"""The ShiftWise networks: their published sizes, and what they share between blocks."""

import pytest
import torch

from pelk_mm.layers import ShiftwiseConv
from pelk_mm.models import ShiftWiseNet, ShiftWiseNetV1

SMALL = {'depths': (1, 1, 2, 1), 'channels': (8, 16, 24, 32)}


def parameters(build):
    """Of the network with a classifier of 1000 classes."""
    with torch.device('meta'):
        net = build()
    return sum(parameter.numel() for parameter in net.parameters()) + 1000 * net.channels[-1] + 1000


@pytest.mark.parametrize(
    ('arch', 'trained', 'merged'),
    [
        ('tiny', 31_790_260, 31_002_670),
        ('small', 57_312_892, 55_990_108),
        ('base', 100_250_380, 98_477_182),
        ('large', 221_808_628, 219_153_178),
    ],
)
def test_published_parameters(arch, trained, merged):
    assert parameters(lambda: ShiftWiseNet(arch)) == trained
    assert parameters(lambda: ShiftWiseNet(arch, rep_paths=1)) == merged


@pytest.mark.parametrize(
    ('kwargs', 'millions'),
    [
        ({'arch': 'tiny'}, 29.42),
        ({'arch': 'small'}, 52.27),
        ({'arch': 'base'}, 91.33),
        ({'arch': 'tiny', 'small_kernel': 5, 'width_factor': 1.3}, 49.95),
    ],
)
def test_parameters_of_version_1(kwargs, millions):
    assert parameters(lambda: ShiftWiseNetV1(**kwargs)) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize('kind', [ShiftWiseNet, ShiftWiseNetV1])
def test_arguments_reach_the_mixers(kind):
    net = kind(SMALL, kernel_sizes=(13, 11, 9, 7), small_kernel=5, ghost_ratio=0.4, rep_paths=3, edges=1)
    mixers = [block.mixer for stage in net.stages for block in stage]
    assert {type(mixer) for mixer in mixers} == {ShiftwiseConv}
    assert [mixer.kernel_size for mixer in mixers] == [13, 11, 9, 9, 7]
    assert {(mixer.small_kernel, mixer.rep_paths, mixer.edges) for mixer in mixers} == {(5, 3, 1)}
    convolved = [4, 8, 14, 14, 18] if kind is ShiftWiseNet else [5, 10, 15, 15, 20]
    assert [mixer.conv_channels for mixer in mixers] == convolved
    first, second = net.stages[2]
    assert torch.equal(first.mixer.horizontal, second.mixer.horizontal)
    assert not torch.equal(first.mixer.weight, second.mixer.weight)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'ghost_ratio': 1}, r'ghost_ratio must be in \[0, 1\), but got 1'),
        ({'small_kernel': 2}, 'small_kernel must be odd and positive, but got 2'),
        ({'kernel_sizes': (51, 49, 47)}, 'kernel_sizes must have one entry for each of the 4 stages'),
        ({'kernel_sizes': (51, 49, 47, 12)}, 'every entry of kernel_sizes must be odd and positive, but got 12'),
        ({'arch': 'huge'}, 'arch must be one of tiny, small, base'),
    ],
)
@pytest.mark.parametrize('kind', [ShiftWiseNet, ShiftWiseNetV1])
def test_bad_arguments(kind, kwargs, message):
    with pytest.raises(ValueError, match=message):
        kind(**{'arch': SMALL, **kwargs})
