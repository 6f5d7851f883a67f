import io

import pytest
from PIL import Image

from pelk_mm.analysis.figures.charts import png_bytes
from pelk_mm.analysis.figures.parameter_curve import (
    LABELS,
    built_parameters,
    draw_parameter_curve,
    kernel_parameters,
    parameter_curve,
)
from pelk_mm.models import PeLK


@pytest.mark.parametrize(('size', 'segments'), [(7, 7), (13, 9), (51, 13), (101, 15), (151, 15)])
def test_weights_of_a_kernel(size, segments):
    """k' counted by hand from the grids of docs/paper/decisions.md, central size 5."""
    assert kernel_parameters('peripheral', size) == segments**2
    assert kernel_parameters('dense', size) == size * size
    assert kernel_parameters('stripe', size) == size * 5 + 5 * size


@pytest.mark.parametrize(('arch', 'conv_ratio', 'sizes'), [('tiny', 1.0, (51,)), ('atto', 3 / 8, (7, 13, 101, 151))])
def test_the_formula_counts_what_is_built(arch, conv_ratio, sizes):
    for row in parameter_curve(sizes, arch, conv_ratio=conv_ratio):
        for mixer in LABELS:
            built = built_parameters(mixer, row['kernel_size'], arch, conv_ratio=conv_ratio)
            assert row[f'{mixer}_backbone'] == built, (mixer, row['kernel_size'])


def test_the_kernels_are_those_of_a_net_with_values():
    """The first stage of a PeLK in memory, not on the meta device, and other widths than the defaults."""
    (row,) = parameter_curve((31,), 'atto', central_size=7, stripe_width=3)
    for mixer, weights in (
        ('dense', ('w_theta',)),
        ('stripe', ('tall_weight', 'wide_weight')),
        ('peripheral', ('w_theta',)),
    ):
        options = {'central_size': 7} if mixer == 'peripheral' else {}
        net = PeLK(
            'atto', kernel_sizes=(31,) * 4, mixer=mixer, conv_ratio=1.0, width_factor=1.0, small_kernel=3,
            pos_embed=None if mixer == 'stripe' else 'visible', **options,
        )  # fmt: skip
        net.switch_to_deploy()
        count = sum(p.numel() for name, p in net.named_parameters() if name.endswith(weights))
        assert row[mixer] == count, mixer
        if mixer == 'dense':
            assert row['pos_embed'] == sum(h.numel() for h in net.pos_embeds)


def test_at_7x7_a_dense_net_is_convnext():
    """ConvNeXt-T has 28,589,128 parameters (arXiv 2201.03545 prints 29M), 769,000 of them in its classifier."""
    (row,) = parameter_curve((7,))
    assert row['dense_backbone'] == 28_589_128 - 769_000


def test_the_figure():
    rows = parameter_curve((7, 13, 31), 'atto')
    figure = draw_parameter_curve(rows, [('dense', 31, rows[2]['dense_backbone'])], 'a title', width=800)
    left, right = figure.axes
    assert left.get_xlabel() == right.get_xlabel() == 'kernel size K (pixels)'
    assert left.get_ylabel() == 'parameters of the large kernels (millions)'
    assert right.get_ylabel() == 'parameters of the backbone, without h (millions)'
    assert [text.get_text() for text in left.get_legend().get_texts()] == [*LABELS.values(), 'embedding h, one a stage']
    drawn = {line.get_label(): line.get_ydata() for line in left.get_lines()}
    for mixer, label in LABELS.items():
        assert list(drawn[label]) == [row[mixer] / 1e6 for row in rows]
    assert Image.open(io.BytesIO(png_bytes(figure))).size == (800, 336)


@pytest.mark.parametrize(
    ('arguments', 'options', 'message'),
    [
        (((),), {}, 'kernel_sizes must hold at least one size'),
        (((8,),), {}, 'kernel_size must be .*odd.*8'),
        (((3,),), {}, 'stripe_width must be at most kernel_size=3, but got 5|central_size'),
        (((7,), 'huge'), {}, "arch must be one of atto, .*'huge'"),
        (((7,),), {'conv_ratio': 0}, r'conv_ratio must be in \(0, 1\]'),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        parameter_curve(*arguments, **options)


def test_an_unknown_mixer():
    for function in (kernel_parameters, built_parameters):
        with pytest.raises(ValueError, match="mixer must be one of .*'round'"):
            function('round', 7)
