from pelk_mm.utils.spread import spread


def test_spread_takes_both_ends():
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(2, 50) == [0, 1]
    assert spread(0, 50) == []


def test_the_index_below_or_the_nearest():
    assert spread(10, 7) == [0, 1, 3, 4, 6, 7, 9]
    assert spread(10, 7, nearest=True) == [0, 2, 3, 4, 6, 8, 9]
