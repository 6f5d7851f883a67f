import numpy as np
import pytest

from pelk_mm.utils.pictures import make_palette, overlay, paint_labels, sheet

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
