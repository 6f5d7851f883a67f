"""The inception mixer."""

import pytest
import torch
from torch.nn import functional as F

from pelk_mm.layers import InceptionConv


@pytest.mark.parametrize('arguments', [{}, {'branch_ratio': 1 / 3, 'square_kernel': 5, 'band_kernel': 21}])
def test_is_a_split_into_three_convolutions_and_what_passes(arguments):
    mixer, x = InceptionConv(24, **arguments), torch.randn(2, 24, 7, 9)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter)
    g, k, b = (8, 5, 21) if arguments else (3, 3, 11)
    first = 24 - 3 * g

    def convolved(start, weight, bias, padding):
        return F.conv2d(x[:, start : start + g], weight, bias, padding=padding, groups=g)

    expected = torch.cat(
        [
            x[:, :first],
            convolved(first, mixer.square_weight, mixer.square_bias, k // 2),
            convolved(first + g, mixer.wide_weight, mixer.wide_bias, (0, b // 2)),
            convolved(first + 2 * g, mixer.tall_weight, mixer.tall_bias, (b // 2, 0)),
        ],
        dim=1,
    )
    assert mixer.wide_weight.shape[2:] == (1, b)
    torch.testing.assert_close(mixer(x), expected, rtol=1e-4, atol=1e-5)
    mixer.switch_to_deploy()
    assert mixer.deployed
    torch.testing.assert_close(mixer(x), expected, rtol=1e-4, atol=1e-5)
    (mixer(x) * torch.randn(2, 24, 7, 9)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in mixer.parameters())
    assert mixer.maskable_parameters == ('square_weight', 'wide_weight', 'tall_weight')


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'branch_ratio': 0.5}, ValueError, r'branch_ratio must be in \(0, 1/3\], but got 0.5'),
        ({'branch_ratio': 0}, ValueError, r'branch_ratio must be in \(0, 1/3\], but got 0'),
        ({'branch_ratio': None}, TypeError, 'branch_ratio must be a finite number, but got None'),
        ({'branch_ratio': 0.1}, ValueError, 'branch_ratio=0.1 of 8 channels leaves none to convolve'),
        ({'square_kernel': 4}, ValueError, 'square_kernel must be odd and positive, but got 4'),
        ({'band_kernel': 10}, ValueError, 'band_kernel must be odd and positive, but got 10'),
        ({'channels': 0}, ValueError, 'channels must be at least 1, but got 0'),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        InceptionConv(**{'channels': 8, **arguments})


def test_bad_input():
    mixer = InceptionConv(8)
    with pytest.raises(ValueError, match=r'x must have shape \(N, 8, H, W\), but got \(8, 4, 4\)'):
        mixer(torch.zeros(8, 4, 4))
    for call in (lambda h: mixer(torch.zeros(1, 8, 4, 4), h), mixer.switch_to_deploy):
        with pytest.raises(ValueError, match='pos_embed must be None'):
            call(torch.zeros(8, 11, 11))
