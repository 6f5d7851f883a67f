from pathlib import Path

import pytest
from tool_runner import load_tool, run


def test_segmentor_trains_resumes_and_is_tested(project, capsys):
    """SyncBN, nccl and AMP in the config do not stop one CPU process."""
    assert run('train.py', 'seg.py', '--amp') == 0
    work_dir = project / 'work_dirs' / 'seg'
    assert (work_dir / 'iter_2.pth').exists()
    assert (work_dir / 'seg.py').exists()
    log = next(work_dir.glob('*/*.log')).read_text()
    assert log.count('training in float32') == 1

    capsys.readouterr()
    assert run('train.py', 'seg.py') == 2
    err = capsys.readouterr().err
    assert 'already holds 2 checkpoint(s) (iter_1.pth, iter_2.pth): pass --resume' in err
    assert err.count('\n') == 1
    assert run('train.py', 'seg.py', '--resume', '--overwrite') == 2
    assert 'pass one of them' in capsys.readouterr().err

    assert run('train.py', 'seg.py', '--resume', '--no-validate', '--cfg-options', 'train_cfg.max_iters=3') == 0
    assert (work_dir / 'last_checkpoint').read_text().endswith('iter_3.pth')
    log = max(work_dir.glob('*/*.log')).read_text()
    assert 'resumed epoch: 0, iter: 2' in log
    assert 'mIoU' not in log

    assert run('test.py', 'seg.py', work_dir / 'iter_3.pth', '--deploy', '--out', 'maps') == 0
    assert sorted(path.name for path in Path('maps').iterdir()) == [f'{i}.png' for i in range(4)]


def test_classifier_and_detector_train(project):
    assert run('train.py', 'cls.py', '--work-dir', 'out') == 0
    assert run('train.py', 'det.py') == 0
    assert Path('out/epoch_1.pth').exists()
    assert Path('work_dirs/det/epoch_1.pth').exists()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['none.py'], 'config none.py does not exist'),
        (['seg.py', '--auto-scale-lr'], '--auto-scale-lr needs auto_scale_lr='),
        (['seg.py', '--cfg-options', 'data_root=x'], 'data_root is a variable of the config file, already used'),
        (
            ['seg.py', '--cfg-options', 'train_dataloader.dataset.data_root=data/x'],
            "data_root 'data/x' of train_dataloader does not exist (looked for",
        ),
        (['seg.py', '--cfg-options', 'model.decode_head.num_classes=2'], 'has 3 classes, but decode_head has num_clas'),
        (
            ['seg.py', '--cfg-options', 'model.backbone.arch=huge'],
            'cannot build the model and hooks of seg.py: ValueError: ',
        ),
        (
            ['seg.py', '--cfg-options', 'model.type=NoNet'],
            'KeyError: NoNet is not in the mmseg::model registry',
        ),
        (
            ['seg.py', '--cfg-options', 'optim_wrapper.optimizer.type=NoSuch'],
            "optim_wrapper.optimizer.type must name an optimizer, but got 'NoSuch'",
        ),
        (['seg.py', '--cfg-options', 'load_from=none.pth'], 'checkpoint none.pth does not exist'),
        (['seg.py', '--resume', 'none.pth'], 'checkpoint none.pth does not exist'),
        (['seg.py', '--launcher', 'pytorch'], '--launcher pytorch needs the environment variable(s)'),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(project, capsys, monkeypatch, args, message):
    monkeypatch.delenv('RANK', raising=False)
    assert run('train.py', *args) == 2
    err = capsys.readouterr().err.strip().split('\n')[-1]
    assert err.startswith('error: ')
    assert message in err
    assert not list(project.glob('work_dirs/*/*.py'))
    assert not list(project.glob('work_dirs/*/*.pth'))


def test_labels_beyond_num_classes(project, tool_data, capsys):
    options = ['--cfg-options', 'model.decode_head.num_classes=2', 'train_dataloader.dataset.metainfo.classes=(a,b)']
    options += ['val_dataloader.dataset.metainfo.classes=(a,b)']
    options += [f'{name}_dataloader.dataset.metainfo.palette=[[0,0,0],[1,1,1]]' for name in ('train', 'val')]
    assert run('train.py', 'seg.py', *options) == 2
    expected = f'error: {tool_data}/labels/0.png (train_dataloader) holds label 2, but decode_head has num_classes=2'
    assert expected in capsys.readouterr().err


def test_checkpoint_of_another_architecture_cannot_be_resumed(project, checkpoints, capsys):
    import torch

    state = torch.load(checkpoints['cls'])
    hub = {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}}
    state.update(meta={'epoch': 0, 'iter': 1}, message_hub=hub, optimizer={'state': {}, 'param_groups': []})
    torch.save(state, 'other.pth')
    assert run('train.py', 'seg.py', '--resume', 'other.pth') == 2
    err = capsys.readouterr().err
    assert 'error: checkpoint other.pth does not fit the model of the config' in err
    assert '90 of 99 keys match, all must (missing: ' in err
    assert 'unexpected: head.fc.weight, head.fc.bias' in err
    assert run('train.py', 'seg.py', '--resume', checkpoints['seg']) == 2
    assert 'cannot be resumed: it lacks epoch, iter, message_hub, optimizer' in capsys.readouterr().err


def test_pretrained_backbone_that_would_run_code(project, capsys):
    import os

    import torch

    class Payload:
        def __reduce__(self):
            return os.mkdir, ('payload_ran',)

    torch.save({'state_dict': {'backbone.x': torch.ones(1)}, 'meta': Payload()}, 'evil.pth')
    init = ['model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=evil.pth']
    for options in (['load_from=evil.pth'], init):
        assert run('train.py', 'seg.py', '--cfg-options', *options) == 2
        assert 'evil.pth is refused: unpickling it would use posix.mkdir' in capsys.readouterr().err
    assert run('train.py', 'seg.py', '--resume', 'evil.pth') == 2
    assert not Path('payload_ran').exists()


def test_the_command_to_resume(monkeypatch):
    tool = load_tool('train.py')
    monkeypatch.delenv('PELK_MM_COMMAND', raising=False)
    monkeypatch.setattr('sys.argv', ['tools/train.py'])
    assert tool.resume_command(['a b.py', '--overwrite']) == "python tools/train.py 'a b.py' --resume"
    assert tool.resume_command(['a.py', '--resume', 'x.pth', '--amp']) == 'python tools/train.py a.py --amp --resume'
    monkeypatch.setenv('PELK_MM_COMMAND', 'bash tools/dist_train.sh a.py 8 --resume=x.pth --amp')
    assert tool.resume_command([]) == 'bash tools/dist_train.sh a.py 8 --amp --resume'
