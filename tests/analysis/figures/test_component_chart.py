import io

import pytest
from PIL import Image

from pelk_mm.analysis.counting.complexity import COMPONENTS
from pelk_mm.analysis.figures.charts import png_bytes
from pelk_mm.analysis.figures.component_chart import LABELS, component_rows, draw_components

COUNTS = {
    'small': {'ffn': 6_000_000_000, 'large_kernel': 2_000_000_000, 'downsample': 1_900_000_000, 'head': 7},
    'big': {'ffn': 12_000_000_000, 'large_kernel': 3_000_000_000, 'pos_embed': 100_000_000, 'head': 7, 'other': 0},
}


def test_every_component_has_a_name():
    assert {*COMPONENTS, 'other'} == LABELS.keys()


def test_rows_leave_the_head_out_and_add_up():
    rows = component_rows(COUNTS)
    assert rows[0] == {
        'model': 'small',
        'ffn': 6_000_000_000,
        'large_kernel': 2_000_000_000,
        'downsample': 1_900_000_000,
        'pos_embed': 0,
        'total': 9_900_000_000,
    }
    assert list(rows[1]) == list(rows[0])
    assert component_rows(COUNTS, head=True)[1]['total'] == sum(COUNTS['big'].values())


def test_the_figure():
    figure = draw_components(component_rows(COUNTS), 'a title', width=600)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('model', 'multiply-adds of one image (billions)')
    assert axes.get_title() == 'a title'
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        'embedding h',
        'stem and downsampling',
        'large kernels',
        'FFN',
    ]
    tops = [max(bars[i].get_y() + bars[i].get_height() for bars in axes.containers) for i in range(2)]
    assert tops == pytest.approx([9.9, 15.1])
    texts = [text.get_text() for text in axes.texts]
    assert {'60.6%', '20.2%', '79.5%', '9.9 G', '15.1 G'} <= set(texts)
    assert '0.7%' not in texts  # no room for it
    assert Image.open(io.BytesIO(png_bytes(figure))).size == (600, 330)


@pytest.mark.parametrize(
    ('counts', 'message'),
    [
        ({}, 'counts must hold at least one model'),
        ({'a': {'ffn': 0, 'head': 3}}, 'a has no multiply-adds to show'),
        ({'a': {'attention': 3}}, 'components must be among ffn, .* but got attention'),
    ],
)
def test_bad_input(counts, message):
    with pytest.raises(ValueError, match=message):
        component_rows(counts)
