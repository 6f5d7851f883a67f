import io

import pytest
from PIL import Image

from pelk_mm.analysis.figures.charts import csv_text, new_figure, png_bytes


def test_a_png_has_the_pixels_asked_for_and_pyplot_is_not_touched():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure = new_figure(320, 240)
    figure.subplots().plot([0, 1], [1, 0])
    first = png_bytes(figure)
    assert Image.open(io.BytesIO(first)).size == (320, 240)
    assert png_bytes(figure) == first
    assert dict(matplotlib.rcParams) == before
    from matplotlib import _pylab_helpers

    assert not _pylab_helpers.Gcf.figs


def test_csv():
    assert csv_text([{'a': 1, 'b': 2.5}, {'a': 3, 'b': 4}]) == 'a,b\n1,2.5\n3,4\n'
    for rows in ([], [{'a': 1}, {'b': 1}]):
        with pytest.raises(ValueError, match='rows must be at least one and have the same keys'):
            csv_text(rows)


def test_a_figure_too_small_for_its_labels():
    with pytest.raises(ValueError, match='at least 100 pixels, but got 320 x 50'):
        new_figure(320, 50)
