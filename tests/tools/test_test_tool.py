import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tool_runner import run


@pytest.mark.parametrize('task', ['seg', 'cls', 'det'])
def test_every_task_is_tested_and_painted(project, checkpoints, task):
    """One tool; flags mean for each task what the toolbox's own tool means by them."""
    out = {'seg': 'maps', 'cls': 'p/pred.pkl', 'det': 'p/pred.pkl'}[task]
    assert run('test.py', f'{task}.py', checkpoints[task], '--out', out, '--show-dir', 'painted', '--deploy') == 0
    pictures = [path for path in Path('painted').rglob('*') if path.suffix in ('.png', '.jpg')]
    assert len(pictures) == 4
    if task == 'seg':
        maps = [np.asarray(Image.open(path)) for path in sorted(Path('maps').iterdir())]
        assert [m.shape for m in maps] == [(48, 64)] * 4
    else:
        assert len(pickle.loads(Path(out).read_bytes())) == 4
    # Only training dumps its config: the one of a training run in the same folder must survive a test.
    assert not list(Path('work_dirs', task).glob('*.py'))


def test_tta(project, checkpoints, capsys):
    assert run('test.py', 'cls.py', checkpoints['cls'], '--tta') == 0
    assert run('test.py', 'seg.py', checkpoints['seg'], '--tta') == 2
    assert '--tta needs tta_model and tta_pipeline in the config seg.py' in capsys.readouterr().err
    with open('seg.py', 'a') as file:
        file.write(
            "tta_model = dict(type='SegTTAModel')\n"
            "flips = [[dict(type='RandomFlip', prob=p) for p in (0., 1.)], [load[1]], pack]\n"
            "tta_pipeline = load[:1] + [dict(type='TestTimeAug', transforms=flips)]\n"
        )
    assert run('test.py', 'seg.py', checkpoints['seg'], '--tta') == 0


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['seg.py', 'none.pth'], 'checkpoint none.pth does not exist'),
        (['seg.py', 'cls.pth'], 'does not fit the model of the config: 90 of 99 keys match, all must (missing: backbo'),
        (['seg.py', 'cut.pth'], 'checkpoint cut.pth cannot be read: it is truncated'),
        (['seg.py', 'seg.pth', '--out', 'x.pkl'], '--out x.pkl: label maps are written as PNG files, so a folder'),
        (['cls.py', 'cls.pth', '--out', 'folder'], '--out folder: predictions are dumped to one file ending in .pkl'),
        (['seg.py', 'seg.pth', '--show'], '--show needs a display, and DISPLAY is not set: use --show-dir'),
        (['seg.py', 'seg.pth', '--cfg-options', 'test_dataloader.dataset.data_root=x'], "data_root 'x' of test_dat"),
        (['seg.py', 'seg.pth', '--cfg-options', 'test_evaluator=None'], 'cannot be tested: it lacks test_evaluator'),
        (['seg.py', 'seg.pth', '--cfg-options', 'test_dataloader.dataset.img_suffix=.x'], 'test_dataloader is empty'),
    ],
)
def test_bad_input(project, checkpoints, capsys, monkeypatch, args, message):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    data = checkpoints['seg'].read_bytes()
    Path('cut.pth').write_bytes(data[: len(data) // 2])
    assert run('test.py', *args) == 2
    err = capsys.readouterr().err.strip().split('\n')[-1]
    assert err.startswith('error: ')
    assert message in err


def test_a_checkpoint_that_would_run_code(project, checkpoints, capsys):
    import os

    class Payload:
        def __reduce__(self):
            return os.makedirs, ('payload_ran', 0o777, True)

    state = torch.load(checkpoints['seg'])
    torch.save({**state, 'extra': Payload()}, 'evil.pth')
    assert run('test.py', 'seg.py', 'evil.pth') == 2
    assert 'evil.pth is refused: unpickling it would use os.makedirs' in capsys.readouterr().err
    assert not Path('payload_ran').exists()
    assert run('test.py', 'seg.py', 'evil.pth', '--trust-checkpoint') == 0
    assert Path('payload_ran').exists()  # the payload is a live one
