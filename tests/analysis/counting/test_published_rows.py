"""The published rows from the configs themselves."""

from pathlib import Path

import pytest
from hand_sums import NEWER, newer_macs
from mmengine.fileio import load

from pelk_mm.analysis.counting.published_figures import CONVNEXT_T_GMACS, IMAGENET, ROWS
from pelk_mm.analysis.counting.published_rows import count_published_rows, render_table
from pelk_mm.utils.errors import ConfigError, OutputError
from pelk_mm.utils.files import END, START, write_table

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]

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

# Parameters of the other nets on ImageNet: as their authors' classes have them (SLaK 0.6 of all but norms and biases),
# UniRepLKNet's and InceptionNeXt's summed by hand over the layers that their papers name, in the form of the row.
SIBLINGS = {
    'SW-T': 31_002_670,
    'SW-S': 55_990_108,
    'SLaK-T': 30.47e6,
    'SLaK-S': 54.78e6,
    'SLaK-B': 94.91e6,
    'UniRepLKNet-A': 4_437_300,
    'UniRepLKNet-F': 6_235_216,
    'UniRepLKNet-P': 10_741_704,
    'UniRepLKNet-N': 18_318_560,
    'UniRepLKNet-T': 31_037_980,
    'UniRepLKNet-S': 55_645_984,
    'InceptionNeXt-T': 28_055_680,
    'InceptionNeXt-S': 49_374_016,
    'InceptionNeXt-B': 86_672_136,
    'WTConvNeXt-T': 30_383_656,
    'WTConvNeXt-S': 54_015_784,
    'WBMM-N': 18_169_600,
    'WBMM-T': 31_071_180,
    'WBMM-S': 55_710_016,
    'OverLoCK-T': 33_467_040,
    'OverLoCK-B': 94_942_528,
    'UniConvNet-A': 3_406_732,
    'UniConvNet-P1': 6_093_960,
    'UniConvNet-P2': 7_590_300,
    'UniConvNet-N0': 10_253_506,
    'UniConvNet-N1': 13_092_286,
    'UniConvNet-N2': 15_036_745,
    'UniConvNet-N3': 19_694_569,
    'UniConvNet-T': 30_325_652,
    'UniConvNet-S': 50_025_735,
    'UniConvNet-B': 97_659_176,
}
SIDES = (56, 28, 14, 7)
BELOW_TINY = {'A': (40, 6), 'F': (48, 6), 'P': (64, 6), 'N': (80, 8)}  # UniRepLKNet: channels, depth of stage 3
KERNELS = (51, 49, 47, 13)


def macs_by_hand(name):
    """Multiply-adds of convolutions and linears at 224 x 224, from the papers' tables of widths and depths.

    UniRepLKNet's, deployed, count the LayerNorms too, 5 for each value, and the means, 1.
    """
    family, _, size = name.partition('-')
    narrow = family in ('SW', 'UniRepLKNet') and size == 'T'
    width = 80 if narrow else BELOW_TINY[size][0] if size in BELOW_TINY else 128 if size == 'B' else 96
    widths = [width * 2**i for i in range(4)]
    if family == 'SLaK':
        widths = [int(1.3 * c) for c in widths]
    depths = (3, 3, 27 if size != 'T' else 18 if narrow else 9, 3)
    if size in BELOW_TINY:
        depths = (2, 2, BELOW_TINY[size][1], 2)
    overlapping = family in ('SW', 'UniRepLKNet')
    total = 0
    for i, (c, side, depth) in enumerate(zip(widths, SIDES, depths, strict=True)):
        if i:
            total += (9 if overlapping else 4) * widths[i - 1] * c * side**2
        elif overlapping:
            total += 9 * 3 * (c // 2) * 112**2 + 9 * (c // 2) * c * 56**2
        else:
            total += 16 * 3 * c * 56**2
        for block in range(depth):
            total += 2 * (3 if family == 'InceptionNeXt' and i == 3 else 4) * c * c * side**2
            if overlapping:  # squeeze and excitation
                total += 2 * c * (c // 4)
            if family == 'SW':
                convolved = int(0.77 * c) // 2 * 2
                total += convolved * -(-KERNELS[i] // 3) * 9 * (side + 2) ** 2
            elif family == 'UniRepLKNet':
                large = i in (1, 3) or (i == 2 and block % {'T': 2, 'S': 3}.get(size, 1) == 0)
                total += c * ((169 if large else 9) + 1) * side**2
            elif family == 'SLaK':
                total += 2 * 5 * KERNELS[i] * c * side**2
            else:
                total += (9 + 11 + 11) * (c // 8) * side**2
    if family == 'UniRepLKNet':
        total += 5 * (widths[0] // 2 * 112**2 + sum(c * side**2 for c, side in zip(widths, SIDES, strict=True)))
        total += widths[3] * (7**2 + 5)
    total += 3 * widths[3] * (widths[3] + 1000) if family == 'InceptionNeXt' else widths[3] * 1000
    return total * (0.6 if family == 'SLaK' else 1)


@pytest.fixture(scope='module')
def counted():
    for toolbox in ('mmpretrain', 'mmseg', 'mmdet'):
        pytest.importorskip(toolbox, reason='counts nets of every toolbox')
    return count_published_rows(ROOT / 'configs')


def test_the_rows_are_all_there():
    assert [row.config for row in ROWS if row.form == 'pelk'] == list(BY_CONVENTION)
    assert [row.name for row in ROWS if row.form != 'pelk' and row.shape == IMAGENET] == list(SIBLINGS)
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize('row', [row for row in ROWS if row.form == 'pelk'], ids=lambda row: row.config)
def test_row(counted, row):
    counts, convnext = counted
    params, gmacs = BY_CONVENTION[row.config]
    ours = counts[row.name]
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


@pytest.mark.parametrize('row', [row for row in ROWS if row.form != 'pelk'], ids=lambda row: row.name)
def test_sibling(counted, row):
    ours = counted[0][row.name]
    assert ours.macs == sum(ours.macs_by_component.values())
    slak = row.form == 'slak'
    if row.shape == IMAGENET:
        assert ours.params_nonzero == pytest.approx(SIBLINGS[row.name], abs=1e4 if slak else 0)
        by_hand = newer_macs(row.name) if row.name in NEWER else macs_by_hand(row.name)
        assert ours.macs == pytest.approx(by_hand, rel=1e-5)
        assert ours.macs / 1e9 == pytest.approx(row.gmacs, rel=0.04 if slak else 0.01, abs=0.05)
        assert ours.params_nonzero / 1e6 == pytest.approx(row.params, abs=0.51)
    else:  # what is not explained is said on the page
        assert ours.macs / 1e9 == pytest.approx(row.gmacs, rel=0.035 if slak else 0.002)
        assert ours.params_nonzero / 1e6 == pytest.approx(row.params, rel=0.03)


def test_the_metafiles_say_what_is_counted(counted):
    models = [model for path in load(ROOT / 'model-index.yml')['Import'] for model in load(ROOT / path)['Models']]
    listed = {Path(model['Config']).stem: model['Metadata'] for model in models}
    for row in ROWS:
        if row.as_configured:
            ours, said = counted[0][row.name], listed[row.config]
            assert (ours.params_nonzero, ours.macs) == (said['Parameters'], said['FLOPs']), row.name


def test_the_detector_of_convnext_costs_what_its_authors_say(counted):
    """741 G with 86 M parameters: 1000 proposals through each box head and 100 through each mask head."""
    convnext = counted[1]
    assert convnext.macs / 1e9 == pytest.approx(CONVNEXT_T_GMACS, rel=0.002)
    assert convnext.params == convnext.params_nonzero
    assert convnext.params / 1e6 == pytest.approx(86, abs=0.5)


def test_the_page_shows_what_is_counted(counted):
    page = (ROOT / 'docs' / 'paper' / 'published_rows.md').read_text()
    assert f'{START}\n{render_table(*counted)}\n{END}' in page, (
        'the table is out of date: python tools/analysis_tools/published_rows.py --page docs/paper/published_rows.md'
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
    with pytest.raises(OutputError, match='absent.md cannot be read'):
        write_table(tmp_path / 'absent.md', 'new')


def test_missing_configs(tmp_path):
    with pytest.raises(ConfigError, match='pelk_t_imagenet.py does not exist'):
        count_published_rows(tmp_path)
