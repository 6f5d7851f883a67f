import numpy as np
import pytest

from pelk_mm.datasets.toy_scenes import OBJECTS, TOY_CLASSES, _outline, make_scene


def scene(seed, size=96, required='ball'):
    return make_scene(np.random.default_rng(seed), size, required)


def test_same_generator_state_gives_the_same_scene():
    for first, second in zip(scene(3), scene(3), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (scene(3)[0] != scene(4)[0]).any()


def test_the_global_generator_is_left_alone():
    np.random.seed(5)
    scene(0)
    drawn = np.random.random()
    np.random.seed(5)
    assert drawn == np.random.random()


@pytest.mark.parametrize('size', [64, 97, 160])
def test_shapes_types_and_ids(size):
    image, labels = scene(0, size)
    assert image.shape == (size, size, 3)
    assert labels.shape == (size, size)
    assert image.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, *TOY_CLASSES.values()}


@pytest.mark.parametrize('required', OBJECTS)
def test_required_object_is_always_there(required):
    for seed in range(10):
        assert (scene(seed, required=required)[1] == TOY_CLASSES[required]).sum() > 50


def test_sky_lies_above_sea():
    _, labels = scene(1)
    rows = np.arange(labels.shape[0])[:, None] * np.ones(labels.shape, int)
    assert rows[labels == TOY_CLASSES['sky']].mean() + 20 < rows[labels == TOY_CLASSES['sea']].mean()


def test_colour_alone_does_not_give_the_class_away():
    colours = {name: [] for name in TOY_CLASSES}
    for seed in range(150):
        image, labels = scene(seed, 64, OBJECTS[seed % len(OBJECTS)])
        for name, ade_id in TOY_CLASSES.items():
            if (labels == ade_id).any():
                colours[name].append(image[labels == ade_id].mean(0))
    means = np.array([np.mean(values, 0) for values in colours.values()])
    spread = np.array([np.std(values, 0) for values in colours.values()])
    assert (abs(means[:, None] - means[None]).max() < spread.min()).all()


def test_outlines_have_the_areas_of_their_shapes():
    v, u = np.mgrid[-1:1:401j, -1:1:401j]
    areas = {name: _outline(name, u, v).mean() * 4 for name in OBJECTS}
    expected = {
        'ball': np.pi,
        'plate': np.pi * (1 - 0.55**2),
        'boat': 3 * np.sqrt(3) / 4,
        'light': 2 * 0.54 * 1.9 - 0.54**2,
        'box': 2,
        'flag': 2,
        'windowpane': 2,
    }
    assert areas == pytest.approx(expected, rel=0.03)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match='size must be at least 64 pixels.*got 32'):
        scene(0, 32)
    with pytest.raises(ValueError, match="required must be one of .*'box'.*got 'sky'"):
        scene(0, required='sky')
