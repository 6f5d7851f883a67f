import pytest

from pelk_mm.utils.markdown import markdown


def test_aligned():
    assert markdown(['net', 'ms'], [['a', '1.0'], ['longer', '']]).splitlines() == [
        '| net    |  ms |',
        '| ------ | --: |',
        '| a      | 1.0 |',
        '| longer |     |',
    ]


def test_one_line_a_row():
    assert markdown(['net', 'ms', ''], [['longer', '', '']], aligned=False).splitlines() == [
        '| net | ms | |',
        '|---|---|---|',
        '| longer | | |',
    ]


def test_every_row_has_as_many_cells_as_the_header():
    with pytest.raises(ValueError, match='every row must have 2 cells'):
        markdown(['a', 'b'], [['1']])
