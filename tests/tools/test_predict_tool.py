import json
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from PIL import Image
from tool_runner import run

from pelk_mm.apis.predict import predict


def test_segmentor_writes_overlay_and_label_map(project, checkpoints, tool_data, capsys):
    args = ['predict.py', 'seg.py', checkpoints['seg'], tool_data / 'images', '--out-dir', 'out']
    assert run(*args, '--opacity', 1) == 0
    assert sorted(path.name for path in Path('out').iterdir()) == sorted(
        [*(f'{i}_{kind}.png' for i in range(4) for kind in ('labels', 'overlay')), 'index.html']
    )
    labels, picture = (np.asarray(Image.open(f'out/0_{kind}.png')) for kind in ('labels', 'overlay'))
    assert labels.shape == (48, 64)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2}
    palette = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0]])  # of the config's data set
    assert np.array_equal(picture, palette[labels])

    out, _ = capsys.readouterr()
    assert out.endswith('4 image(s) predicted, results in out, to look through: out/index.html\n')
    assert '/images/0.jpg: ' in out
    assert run(*args) == 2
    assert 'already holds 9 of the results, 0_overlay.png first: pass --overwrite' in capsys.readouterr().err
    assert run(*args, '--overwrite', '--deploy') == 0
    again = np.asarray(Image.open('out/0_labels.png'))
    assert (again == labels).mean() > 0.99


def test_classifier_and_detector(project, checkpoints, tool_data):
    image = tool_data / 'images' / '1.jpg'
    assert run('predict.py', 'cls.py', checkpoints['cls'], image, '--out-dir', 'cls') == 0
    top = json.loads(Path('cls/1.json').read_text())['top5']
    assert len(top) == 3  # of three classes
    assert sum(entry['score'] for entry in top) == pytest.approx(1, abs=1e-5)

    assert run('predict.py', 'det.py', checkpoints['det'], image, '--out-dir', 'det', '--score-thr', 0) == 0
    boxes = json.loads(Path('det/1.json').read_text())['boxes']
    assert len(boxes) == 5
    assert all(box['class'] == 'square' and len(box['box']) == 4 for box in boxes)
    assert Image.open('det/1_overlay.png').size == (64, 48)
    assert run('predict.py', 'det.py', checkpoints['det'], image, '--out-dir', 'high', '--score-thr', 1) == 0
    assert json.loads(Path('high/1.json').read_text()) == {'boxes': []}


def test_unreadable_images_are_skipped_and_reported(project, checkpoints, tool_data, capsys):
    folder = project / 'mixed'
    folder.mkdir()
    good = (tool_data / 'images' / '0.jpg').read_bytes()
    (folder / 'a_text.jpg').write_text('not an image')
    (folder / 'b_cut.jpg').write_bytes(good[: len(good) // 2])
    (folder / 'c_good.jpg').write_bytes(good)
    (folder / 'notes.txt').write_text('ignored')
    assert run('predict.py', 'seg.py', checkpoints['seg'], folder, '--out-dir', 'out') == 1
    out, err = capsys.readouterr()
    assert 'skipped' in err
    assert 'a_text.jpg: cannot be read as an image: cannot identify' in err
    assert 'b_cut.jpg: cannot be read as an image' in err
    assert err.strip().split('\n')[-1] == 'error: 2 of 3 image(s) could not be read and were skipped'
    assert '1 image(s) predicted' in out
    assert sorted(path.name for path in Path('out').iterdir()) == [
        'c_good_labels.png', 'c_good_overlay.png', 'index.html',
    ]  # fmt: skip
    page = Page('out/index.html')
    assert [file.name for file in page.files()][0] == 'c_good.jpg'
    assert '1, 2 skipped' in page.text
    assert any(line.startswith('a_text.jpg: cannot be read as an image: cannot identify') for line in page.text)


def test_page_of_each_task(project, checkpoints, tool_data, capsys):
    images = tool_data / 'images'
    for task, options in (('seg', []), ('cls', []), ('det', ['--score-thr', 0])):
        assert run('predict.py', f'{task}.py', checkpoints[task], images, '--out-dir', task, *options) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == f'4 image(s) predicted, results in {task}, to look through: {task}/index.html'
        page = Page(f'{task}/index.html')
        assert {f'{task}.py', str(checkpoints[task]), '4', *(f'{i}.jpg' for i in range(4))} <= set(page.text)
        summaries = [line.partition('.jpg: ')[2] for line in lines if '.jpg: ' in line]
        assert len(summaries) == 4
        assert set(summaries) <= set(page.text)
        written = {file.resolve() for file in Path(task).iterdir()} - {Path(task, 'index.html').resolve()}
        assert {file.resolve() for file in page.files()} == written | set(images.resolve().iterdir())
        assert len(page.all('img')) == (4 if task == 'cls' else 8)
        assert len(page.all('tr')) == (4 * 3 if task == 'cls' else 0)

    labels = {i for n in range(4) for i in np.unique(np.asarray(Image.open(f'seg/{n}_labels.png'))).tolist()}
    colours = ['rgb(0, 0, 255)', 'rgb(0, 255, 0)', 'rgb(255, 0, 0)']
    shown = {tag['style'].removeprefix('background:') for tag in Page('seg/index.html').all('i')}
    assert shown == {colours[i] for i in labels}


def test_page_is_replaced_only_when_asked(project, checkpoints, tool_data, capsys):
    args = ['predict.py', 'cls.py', checkpoints['cls'], tool_data / 'images', '--out-dir', 'out']
    Path('out').mkdir()
    Path('out/index.html').write_text('mine')
    assert run(*args) == 2
    assert 'already holds 1 of the results, index.html first: pass --overwrite' in capsys.readouterr().err
    assert [file.read_text() for file in Path('out').iterdir()] == ['mine']
    assert run(*args, '--overwrite') == 0
    assert len(Page('out/index.html').all('article')) == 4

    Path('taken/index.html').mkdir(parents=True)
    assert run(*args[:-1], 'taken', '--overwrite') == 2
    assert 'taken/index.html is a folder, not a file' in capsys.readouterr().err
    assert len(list(Path('taken').iterdir())) == 1
    image = tool_data / 'images' / '1.jpg'
    assert run('predict.py', 'cls.py', checkpoints['cls'], image, '--out-dir', 'out', '--overwrite') == 0
    assert capsys.readouterr().out.endswith('1 image(s) predicted, results in out\n')
    assert len(Page('out/index.html').all('article')) == 4  # a single image leaves the page alone


def test_an_interrupted_run_leaves_the_page_of_what_is_done(project, checkpoints, tool_data, capsys, monkeypatch):
    images = str(tool_data / 'images')
    results = predict('cls.py', str(checkpoints['cls']), images, 'closed')
    next(results)
    assert not Path('closed/index.html').exists()
    results.close()
    assert '1, 3 not reached: the run was interrupted' in Page('closed/index.html').text

    from pelk_mm.apis import predict as module

    write = module.write_classes

    def press_ctrl_c(meta, sample, files):
        if files[0].name == '2.json':
            raise KeyboardInterrupt
        return write(meta, sample, files)

    monkeypatch.setattr(module, 'write_classes', press_ctrl_c)
    assert run('predict.py', 'cls.py', checkpoints['cls'], images, '--out-dir', 'out') == 130
    assert capsys.readouterr().err == 'interrupted\n'
    page = Page('out/index.html')
    assert '2, 2 not reached: the run was interrupted' in page.text
    assert {file.name for file in page.files()} == {'0.jpg', '1.jpg', '0.json', '1.json'}


def test_turned_photographs(project, checkpoints, tool_data):
    """An EXIF entry turns the picture; overlay and label map follow the decoder of the pipeline."""
    picture = Image.open(tool_data / 'images' / '0.jpg')
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save('turned.jpg', exif=exif)
    assert run('predict.py', 'seg.py', checkpoints['seg'], 'turned.jpg', '--out-dir', 'out') == 0
    assert Image.open('out/turned_labels.png').size == (48, 64)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['seg.py', 'seg.pth', 'empty'], 'input folder empty holds no image'),
        (['seg.py', 'seg.pth', 'nowhere'], 'input nowhere does not exist'),
        (['seg.py', 'seg.pth', 'twins'], 'a.jpg and a.png would both be written to a_overlay.png'),
        (['seg.py', 'cls.pth', 'twins/a.png'], 'checkpoint cls.pth does not fit the model'),
        (['seg.py', 'seg.pth', 'twins/a.png', '--opacity', '2'], '--opacity must lie between 0 and 1, but got 2.0'),
        (['seg.py', 'seg.pth', 'twins/a.png', '--device', 'cuda:99'], '--device cuda:99: PyTorch sees'),
        (['seg.py', 'seg.pth', 'twins/a.png', '--device', 'tpu9'], "--device 'tpu9' is not a device"),
        (
            ['seg.py', 'seg.pth', 'twins/a.png', '--cfg-options', 'default_scope=mmengine'],
            "default_scope 'mmengine': predictions need one of mmpretrain, mmseg and mmdet",
        ),
    ],
)
def test_bad_input(project, checkpoints, capsys, args, message):
    Path('empty').mkdir()
    Path('twins').mkdir()
    for name in ('a.jpg', 'a.png'):
        Image.new('RGB', (64, 48)).save(Path('twins', name))
    assert run('predict.py', *args, '--out-dir', 'out') == 2
    err = capsys.readouterr().err.strip().split('\n')[-1]
    assert err.startswith('error: ')
    assert message in err
    assert not Path('out').exists()
