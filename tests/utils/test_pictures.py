import numpy as np
import pytest

from pelk_mm.utils.pictures import legend_of, make_palette, overlay, paint_labels, sheet

PALETTE = [[10, 20, 30], [200, 100, 0]]


def test_paint_labels_uses_the_palette_and_leaves_other_ids_black():
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    painted = paint_labels(labels, PALETTE)
    assert painted.dtype == np.uint8
    assert painted.tolist() == [[[10, 20, 30], [200, 100, 0]], [[0, 0, 0], [0, 0, 0]]]
    # A negative id must not wrap round to the last colour.
    assert paint_labels(np.array([[-1]]), PALETTE).tolist() == [[[0, 0, 0]]]


def test_overlay_blends_known_ids_only():
    image = np.full((1, 3, 3), 100, np.uint8)
    blended = overlay(image, np.array([[0, 1, 255]]), PALETTE, opacity=0.5)
    assert blended.tolist() == [[[55, 60, 65], [150, 100, 50], [100, 100, 100]]]
    assert np.array_equal(overlay(image, np.array([[0, 1, 255]]), PALETTE, 0.0), image)


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda: paint_labels(np.zeros((2, 2)), PALETTE), TypeError, 'labels must be integers, but got float64'),
        (lambda: paint_labels(np.zeros(2, int), PALETTE), ValueError, r'shape \(H, W\), but got \(2,\)'),
        (lambda: paint_labels(np.zeros((2, 2), int), [1, 2]), ValueError, r'palette .* but got \(2,\)'),
        (
            lambda: overlay(np.zeros((2, 3, 3), np.uint8), np.zeros((2, 2), int), PALETTE),
            ValueError,
            r'image must have shape \(2, 2, 3\) .* but got \(2, 3, 3\)',
        ),
        (
            lambda: overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), int), PALETTE, 1.5),
            ValueError,
            'opacity .* but got 1.5',
        ),
        (lambda: sheet([]), ValueError, 'at least one picture'),
        (lambda: sheet([[np.zeros((1, 1, 3))] * 2, [np.zeros((1, 1, 3))]]), ValueError, r'but got \[1, 2\]'),
        (lambda: sheet([[np.zeros((1, 1, 3))] * 2], ['a']), ValueError, "each of the 2 columns, but got 1: .'a'."),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_sheet_places_pictures_and_keeps_aspect_ratio(tmp_path):
    red, blue = np.zeros((20, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 255
    blue[..., 2] = 255
    page = sheet([[red, blue], [blue, red]], gap=5)
    assert page.size == (2 * 45 + 5, 2 * 45 + 5)
    pixels = np.asarray(page)
    assert pixels[25, 25].tolist() == [255, 0, 0]
    assert pixels[10, 25].tolist() == [255, 255, 255]  # above the centred, half-height picture
    assert pixels[10, 70].tolist() == [0, 0, 255]
    with_titles = sheet([[red, blue]], ['image', 'truth'])
    assert np.asarray(with_titles.convert('L'))[:20].min() < 128  # the header is written
    with_titles.save(tmp_path / 'sheet.png')


def test_make_palette_is_deterministic_and_distinct():
    palette = make_palette(150)
    assert palette.shape == (150, 3)
    assert len(np.unique(palette, axis=0)) == 150
    assert np.array_equal(palette[:20], make_palette(20))


def test_legend_names_what_occurs():
    ids = np.array([[1, 255], [0, 1]], np.uint8)
    assert legend_of(ids.ravel(), PALETTE, ('sky ', 'sea')) == (
        ('sky', (10, 20, 30)),
        ('sea', (200, 100, 0)),
        ('unlabelled', (0, 0, 0)),
    )
    assert legend_of([1], PALETTE) == (('1', (200, 100, 0)),)
    assert legend_of([-1], PALETTE) == (('unlabelled', (0, 0, 0)),)


def squares(page, legend):
    """Where the colours of a legend are: (left, top, right, bottom) of each."""
    found = []
    for _, colour in legend:
        rows, columns = np.nonzero((np.asarray(page) == colour).all(-1))
        found.append((columns.min(), rows.min(), columns.max(), rows.max()))
    return found


@pytest.mark.parametrize('width', [80, 240, 700])
@pytest.mark.parametrize('name', ['sea', 'bulletin board, notice board'])
def test_a_legend_stands_whole_beneath_the_pictures(width, name):
    grey = np.full((40, width, 3), 77, np.uint8)
    plain = sheet([[grey] * 3], ['a', 'b', 'c'])
    legend = [(f'{name} {i}', (250, 10 * i, 0)) for i in range(14)]
    page = sheet([[grey] * 3], ['a', 'b', 'c'], legend=legend)
    assert np.array_equal(np.asarray(page)[: plain.height, : plain.width], np.asarray(plain))
    assert page.height > plain.height
    assert page.width == plain.width

    pixels = np.asarray(page)
    assert (pixels[-2:] == 255).all()
    assert (pixels[:, -2:] == 255).all()  # no name runs out of the sheet
    places = squares(page, legend)
    sides = {right - left for left, _, right, _ in places} | {bottom - top for _, top, _, bottom in places}
    assert len(sides) == 1
    tops, lefts = sorted({place[1] for place in places}), sorted({place[0] for place in places})
    assert places[0][:2] == (lefts[0], tops[0])
    assert [place[:2] for place in places] == [(left, top) for top in tops for left in lefts][:14]
    assert tops[0] > plain.height
    # Between a square and the next one of its line stands the name, with white around it.
    for (_, top, right, bottom), (left, other_top, *_) in zip(places, places[1:], strict=False):
        if top == other_top:
            gap = (pixels[top : bottom + 1, right + 5 : left - 5] != 255).any((0, 2))  # frames apart
            assert gap.any()
            assert not gap[-3:].any()


def test_a_narrow_sheet_grows_to_the_longest_name():
    grey = np.full((40, 30, 3), 77, np.uint8)
    page = sheet([[grey]], legend=[('box', (250, 0, 0)), ('bulletin board, notice board', (0, 0, 250))])
    pixels = np.asarray(page)
    assert page.width > 150
    assert np.array_equal(pixels[:52, :42], np.asarray(sheet([[grey]])))
    assert (pixels[:52, 42:] == 255).all()
    assert (pixels[:, -2:] == 255).all()
    assert len({left for left, *_ in squares(page, [('', (250, 0, 0)), ('', (0, 0, 250))])}) == 1


def test_columns_of_a_legend_start_where_the_pictures_do():
    legend = [(f'{i}', (250, 10 * i, 0)) for i in range(9)]
    page = sheet([[np.full((40, 100, 3), 77, np.uint8)] * 3], legend=legend)
    lefts = {left for left, *_ in squares(page, legend)}
    assert {7, 7 + 106, 7 + 212} <= lefts  # a line of the frame beside the pictures' 6, 112 and 218


def test_a_light_colour_has_a_frame():
    page = sheet([[np.zeros((40, 100, 3), np.uint8)]], legend=[('snow', (255, 255, 255))])
    assert ((np.asarray(page) == 128).all(-1)).sum() >= 30
