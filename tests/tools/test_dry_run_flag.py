import pytest
from tool_runner import run


def test_the_pass_can_be_left_out(project, capsys):
    """Then a head that does not fit fails in the first iteration."""
    options = ['--cfg-options', 'model.decode_head.in_channels=16']
    assert run('train.py', 'seg.py', *options) == 2
    assert 'error: dry pass: decode_head (FCNHead), convs.0.conv (Conv2d): RuntimeError: ' in capsys.readouterr().err
    assert run('train.py', 'seg.py', '--no-dry-run', *options) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('error: training with seg.py failed unexpectedly: RuntimeError: ')
    assert 'to have 16 channels, but got 8' in line
    assert (project / 'work_dirs/seg/seg.py').exists()


@pytest.mark.parametrize(
    ('config', 'options', 'message'),
    [
        (
            'seg.py',
            ['model.backbone.gap_before_final_norm=True'],
            'backbone puts out 2x8, 2x8, vectors instead of maps: set gap_before_final_norm=False in the backbone (',
        ),
        (
            'seg.py',
            ['model.decode_head.in_index=3'],
            'backbone puts out 2x8x16x16, 2x8x2x2, 2 in all, but in_index of decode_head is [3]: do out_indices fit? (',
        ),
        (
            'seg.py',
            ['model.decode_head.in_channels=16'],
            'backbone puts out 2x8x16x16, 2x8x2x2; in_channels of decode_head says 16 where 8 channels come (',
        ),
        (
            'seg.py',
            ['model.decode_head.loss_decode.class_weight=[1.0,2.0]'],
            'class_weight has 2 entries, but needs one for each class that the head tells apart (',
        ),
        (
            'seg.py',
            ['train_dataloader.dataset.pipeline.1.type=RandomFlip', 'train_dataloader.dataset.pipeline.1.prob=0.0'],
            'does train_dataloader.dataset.pipeline load the annotations? (',
        ),
        (
            'cls.py',
            ['model.backbone.gap_before_final_norm=False'],
            'backbone puts out 2x8x2x2, maps instead of vectors: set gap_before_final_norm=True, or add a ',
        ),
        (
            'cls.py',
            ['model.head.in_channels=16'],
            'backbone puts out 2x8; set in_channels=8 in head, where it is 16 (',
        ),
        (
            'det.py',
            ['model.backbone.out_indices=(1,2,3)'],
            'backbone puts out 2x8x8x8, 2x8x4x4, 2x8x2x2, but in_channels of neck is [8, 8]: one for each output of '
            'backbone (',
        ),
        (
            'det.py',
            ['model.bbox_head.in_channels=16'],
            'neck puts out 2x8x8x8, 2x8x4x4; in_channels of bbox_head says 16 where 8 channels come (',
        ),
    ],
)
def test_common_mistakes_are_explained(project, capsys, config, options, message):
    assert run('train.py', config, '--cfg-options', *options) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count('error: ') == 1
    assert not list(project.glob('work_dirs/*/*.p*'))
