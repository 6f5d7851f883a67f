import io

import numpy as np
import pytest
from PIL import Image

from pelk_mm.analysis.figures.charts import png_bytes
from pelk_mm.analysis.figures.kernel_designs import CELL, draw_kernel_designs, kernel_designs
from pelk_mm.analysis.figures.parameter_curve import kernel_parameters


@pytest.mark.parametrize('sizes', [(51, 5, 5), (13, 5, 3), (7, 1, 7), (101, 7, 9), (1, 1, 1)])
def test_the_parameters_read_are_those_of_the_formulas(sizes):
    designs = kernel_designs(*sizes)
    assert [design.net for design in designs] == ['RepLKNet', 'SLaK', 'PeLK']
    assert [design.parameters for design in designs] == [
        kernel_parameters(mixer, *sizes) for mixer in ('dense', 'stripe', 'peripheral')
    ]


def test_which_positions_share():
    dense, stripes, peripheral = kernel_designs(13, 5, 3)
    assert len(np.unique(dense.owners[0])) == 13 * 13
    tall, wide = (owner >= 0 for owner in stripes.owners)
    assert np.array_equal(tall, wide.T)
    assert tall.sum() == 13 * 3
    assert tall[:, 5:8].all()
    assert not set(stripes.owners[0][tall]) & set(stripes.owners[1][wide])
    (owner,) = peripheral.owners
    assert peripheral.segments == (2, 2, 1, 1, 1, 1, 1, 2, 2)
    assert len(np.unique(owner[:2, :2])) == 1
    assert len(np.unique(owner[4:9, 4:9])) == 25
    assert (owner[:2, 6] == owner[0, 6]).all()
    assert owner[0, 6] != owner[0, 5]


def test_the_figure():
    designs = kernel_designs(13, 5, 3)
    figure = draw_kernel_designs(designs)
    texts = [text.get_text() for text in figure.texts]
    for text in ('dense', "13×13, RepLKNet's design", '169', "13×3 and 3×13, SLaK's design", '78', 'peripheral', '81'):
        assert text in texts
    assert texts.count('2') == 4  # the segments that share, above the peripheral kernel
    cell = 24  # 306 / 13, whole
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    assert {picture.shape for picture in pictures} == {(13 * cell, 13 * cell, 3)}
    assert (pictures[1][:cell, :cell] == 0.93).all()  # neither stripe
    size = png_bytes(figure)
    assert Image.open(io.BytesIO(size)).size == (round(figure.bbox.width), round(figure.bbox.height))
    assert len(png_bytes(draw_kernel_designs(kernel_designs()))) < 60_000
    assert png_bytes(draw_kernel_designs(designs)) == size


def test_one_cell_has_one_colour_and_a_line_around_it():
    designs, cell = kernel_designs(13, 5, 3), 24
    for design, axes in zip(designs, draw_kernel_designs(designs).axes, strict=True):
        picture, read = np.asarray(axes.images[0].get_array()), np.stack(design.owners, -1)
        middles = picture[cell // 2 :: cell, cell // 2 :: cell]
        for parameters in np.unique(read.reshape(13 * 13, -1), axis=0):
            assert len(np.unique(middles[(read == parameters).all(-1)], axis=0)) == 1
        # A position's left and upper edges differ from its middle where another parameter begins.
        left = (picture[cell // 2 :: cell, cell::cell] != middles[:, 1:]).any(-1)
        assert np.array_equal(left, (read[:, 1:] != read[:, :-1]).any(-1))
        upper = (picture[cell::cell, cell // 2 :: cell] != middles[1:]).any(-1)
        assert np.array_equal(upper, (read[1:] != read[:-1]).any(-1))


def test_large_kernels_keep_room_for_their_lines():
    figure = draw_kernel_designs(kernel_designs(101))
    assert figure.axes[0].images[0].get_array().shape[0] == 101 * CELL
    labels = [text.get_text() for text in figure.texts if text.get_text() in ('2', '4', '8', '16', '18')]
    assert labels == ['18', '16', '8', '4', '4', '8', '16', '18']  # no room for 2
