import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from pelk_mm.analysis.figures.charts import png_bytes
from pelk_mm.analysis.figures.receptive_field import (
    MAX_CELLS,
    contribution,
    draw_receptive_field,
    square_sides,
    summarise,
)
from pelk_mm.models import PeLK


class Conv(nn.Module):
    """One convolution as a backbone: a tuple of one map."""

    def __init__(self, kernel, stride=1):
        super().__init__()
        self.weight = nn.Parameter(kernel)
        self.stride = stride

    def forward(self, x):
        return (F.conv2d(x, self.weight, stride=self.stride, padding=self.weight.shape[2] // 2),)


def test_the_field_of_a_convolution_is_its_kernel():
    kernel = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    images = [torch.ones(1, 3, 33, 35, dtype=torch.float64)] * 3
    scores = contribution(Conv(kernel), images)
    assert scores.shape == (33, 35)
    np.testing.assert_allclose(scores[14:19, 15:20], 3 * kernel.detach().sum((0, 1)).numpy())
    outside = scores.copy()
    outside[14:19, 15:20] = 0
    assert not outside.any()


def test_negative_outputs_and_negative_gradients_do_not_count():
    kernel = torch.zeros(2, 3, 3, 3)
    kernel[0, :, 0, 0], kernel[0, :, 2, 2], kernel[1] = -1.0, 2.0, -5.0
    scores = contribution(Conv(kernel), [torch.ones(1, 3, 33, 33)])
    assert scores[17, 17] == 6.0
    assert scores.sum() == 6.0


def test_the_centre_of_a_strided_map():
    """33 pixels at stride 4 and padding 1: 9 outputs, of which the fifth looks at pixels 15 to 17."""
    scores = contribution(Conv(torch.ones(1, 3, 3, 3), stride=4), [torch.ones(1, 3, 33, 33)])
    assert np.argwhere(scores).min(0).tolist() == [15, 15]
    assert np.argwhere(scores).max(0).tolist() == [17, 17]


def test_by_finite_differences_on_pelk():
    """Without rectification on either side this is a plain derivative, so compare where all of it is positive."""
    torch.manual_seed(0)
    net = PeLK(
        {'depths': (1, 1, 1, 1), 'channels': (4, 4, 4, 4)}, kernel_sizes=(13, 11, 9, 7), width_factor=1.0,
        gap_before_final_norm=False, layer_scale_init_value=1.0, conv_ratio=1.0,
    ).double().eval()  # fmt: skip
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    scores = contribution(net, [image])

    def centre(x):
        with torch.no_grad():
            return float(net(x)[-1][:, :, 1, 1].relu().sum())

    for y, x in ((40, 40), (33, 50), (5, 9)):
        expected = 0.0
        for channel in range(3):
            step = torch.zeros_like(image)
            step[0, channel, y, x] = 1e-6
            expected += max((centre(image + step) - centre(image - step)) / 2e-6, 0)
        assert scores[y, x] == pytest.approx(expected, rel=1e-4, abs=1e-8)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_the_side_of_the_square():
    scores = np.zeros((65, 65))
    scores[32, 32], scores[32, 35], scores[28, 32], scores[0, 0] = 20, 30, 40, 10
    assert square_sides(scores, (0.1, 0.2, 0.5, 0.9, 0.91, 1)) == {0.1: 1, 0.2: 1, 0.5: 7, 0.9: 9, 0.91: 65, 1: 65}
    even = np.ones((64, 64))
    assert square_sides(even, (0.5, 1)) == {0.5: 47, 1: 64}  # 45**2 < 2048 <= 47**2
    with pytest.raises(ValueError, match=r'shares must lie in \(0, 1\]'):
        square_sides(scores, (0.0,))
    for wrong in (np.zeros((3, 3)), np.full((3, 3), np.nan), np.ones(3)):
        with pytest.raises(ValueError, match=r'scores must be an \(H, W\) array'):
            square_sides(wrong)


def test_the_summary_has_both_measures():
    scores = np.ones((33, 33))
    scores[16, 16] = 1e6
    (row,) = summarise(scores, (0.5,))
    # The peak holds nearly all of the sum. Of the logarithms, 1088 log10(2) + 6, half is 6 + (side**2 - 1) log10(2).
    assert (row['share'], row['side'], row['side_log']) == (0.5, 1, 25)
    assert row['area'] == pytest.approx(1 / 33**2)
    assert summarise(np.ones((33, 65)), (1,))[0]['area'] == 1


def test_the_figure():
    scores = np.random.default_rng(0).random((320, 320)) + 1e-3
    figure = draw_receptive_field(scores, {0.5: 101, 0.99: 319}, 'a title', width=400)
    axes, bar = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ('x (pixels)', 'y (pixels)', 'a title')
    assert bar.get_ylabel() == 'contribution to the centre, relative to the largest (log scale)'
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['50 %: side 101', '99 %: side 319']
    square = axes.get_lines()[0]
    assert (square.get_xdata().min(), square.get_xdata().max()) == (110, 211)
    shown = axes.images[0].get_array()
    assert max(shown.shape) <= MAX_CELLS
    means = scores[:318, :318].reshape(106, 3, 106, 3).mean((1, 3))
    np.testing.assert_allclose(shown[:106, :106] / shown[0, 0], means / means[0, 0])
    assert Image.open(io.BytesIO(png_bytes(figure))).size == (400, 340)


class Pooled(nn.Module):
    def forward(self, x):
        return (x.mean((2, 3)),)


@pytest.mark.parametrize(
    ('backbone', 'images', 'message'),
    [
        (Pooled(), [torch.ones(1, 3, 32, 32)], r'must be a feature map .* shape \(1, 3\): turn its pooling off'),
        (Conv(torch.ones(1, 3, 3, 3)), [], 'images must hold at least one image'),
        (Conv(torch.ones(1, 3, 3, 3)), [torch.ones(1, 3, 31, 40)], 'at least 32 pixels wide and high, but got 40 x 31'),
        (
            Conv(torch.ones(1, 3, 3, 3)),
            [torch.ones(1, 3, 32, 32), torch.ones(1, 3, 32, 40)],
            r'must have one size, but got 40 x 32 after \(32, 32\)',
        ),
        (Conv(-torch.ones(1, 3, 3, 3)), [torch.ones(1, 3, 32, 32)], 'no pixel contributes'),
        (Conv(torch.full((1, 3, 3, 3), torch.inf)), [torch.ones(1, 3, 32, 32)], 'contributions are not finite'),
    ],
)
def test_bad_input(backbone, images, message):
    with pytest.raises(ValueError, match=message):
        contribution(backbone, images)
    assert all(parameter.requires_grad for parameter in backbone.parameters())
