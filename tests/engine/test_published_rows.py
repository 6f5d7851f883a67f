"""The paper's 13 rows from the configs themselves."""

from pathlib import Path

import pytest

from pelk_mm.analysis.published_rows import CONVNEXT_T_GMACS, ROWS, render_table
from pelk_mm.engine.errors import ConfigError, OutputError
from pelk_mm.engine.published_rows import END, START, count_published_rows, write_table

ROOT = Path(__file__).resolve().parents[2]

# Parameters in millions and multiply-adds in billions that the paper's convention gives, worked out apart from this
# code; of the detectors the multiply-adds over ConvNeXt-T.
BY_CONVENTION = {
    'pelk_t_imagenet': (28.73, 5.83),
    'pelk_s_imagenet': (50.67, 10.92),
    'pelk_b_imagenet': (89.42, 18.38),
    'pelk_b_imagenet_384': (89.42, 54.02),
    'pelk_b_101_imagenet_384': (89.71, 68.35),
    'upernet_pelk_t_ade20k': (62.45, 970.7),
    'upernet_pelk_s_ade20k': (84.38, 1077.1),
    'upernet_pelk_b_ade20k': (125.69, 1237.2),
    'upernet_pelk_b_101_ade20k': (125.98, 1339.1),
    'cascade_mask_rcnn_pelk_t_coco': (86.35, 28.8),
    'cascade_mask_rcnn_pelk_s_coco': (108.28, 132.7),
    'cascade_mask_rcnn_pelk_b_coco': (147.00, 286.4),
    'cascade_mask_rcnn_pelk_b_101_coco': (147.29, 385.9),
}


@pytest.fixture(scope='module')
def counted():
    for toolbox in ('mmpretrain', 'mmseg', 'mmdet'):
        pytest.importorskip(toolbox, reason='counts nets of every toolbox')
    return count_published_rows(ROOT / 'configs')


def test_the_rows_are_all_there():
    assert [row.config for row in ROWS] == list(BY_CONVENTION)


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.config)
def test_row(counted, row):
    counts, convnext = counted
    params, gmacs = BY_CONVENTION[row.config]
    ours = counts[row.config]
    assert ours.macs == sum(ours.macs_by_component.values())
    assert ours.macs_by_component['pos_embed'] == 0
    if 'coco' in row.config:
        over = (ours.macs - convnext.macs) / 1e9
        assert ours.params_nonzero / 1e6 == pytest.approx(params, rel=0.001)
        assert over == pytest.approx(gmacs, abs=0.1)
        assert over == pytest.approx(row.gmacs - CONVNEXT_T_GMACS, abs=1)
    else:
        assert ours.params_nonzero / 1e6 == pytest.approx(params, rel=0.002)
        assert ours.macs / 1e9 == pytest.approx(gmacs, rel=0.002)
    if 'upernet' in row.config:
        assert ours.macs / 1e9 == pytest.approx(row.gmacs, rel=0.002)


def test_the_detector_of_convnext_costs_what_its_authors_say(counted):
    """741 G with 86 M parameters: 1000 proposals through each box head and 100 through each mask head."""
    convnext = counted[1]
    assert convnext.macs / 1e9 == pytest.approx(CONVNEXT_T_GMACS, rel=0.002)
    assert convnext.params == convnext.params_nonzero
    assert convnext.params / 1e6 == pytest.approx(86, abs=0.5)


def test_the_page_shows_what_is_counted(counted):
    page = (ROOT / 'docs' / 'published_rows.md').read_text()
    assert f'{START}\n{render_table(*counted)}\n{END}' in page, (
        'the table is out of date: python tools/analysis_tools/published_rows.py --page docs/published_rows.md'
    )


def test_writing_the_table(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(f'before\n{START}old{END}\nafter\n')
    write_table(page, 'new')
    assert page.read_text() == f'before\n{START}\nnew\n{END}\nafter\n'
    page.write_text('no marks')
    with pytest.raises(OutputError, match='has no place for the table'):
        write_table(page, 'new')
    assert page.read_text() == 'no marks'
    with pytest.raises(OutputError, match='cannot be rewritten'):
        write_table(tmp_path / 'absent.md', 'new')


def test_missing_configs(tmp_path):
    with pytest.raises(ConfigError, match='pelk_t_imagenet.py does not exist'):
        count_published_rows(tmp_path)
