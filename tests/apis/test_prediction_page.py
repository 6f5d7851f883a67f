import os
from pathlib import Path

import pytest
from html_page import Page

from pelk_mm.apis.prediction import Found, Prediction
from pelk_mm.apis.prediction_page import page_html, page_path

NAMES = ['plain', 'a b', '50%41 #1?x=1&y', '<b>"bold"', "it's", 'Größe_ü', 'a:b', '&amp;', '日本', '..x']
SKY, SEA = ('sky', (6, 230, 230)), ('sea & <shore>', (9, 7, 230))


def predicted(folder, name, found, suffixes=('_overlay.png', '_labels.png'), ending='.jpg', size=(640, 480)):
    """A prediction whose files are there: its input in ``in``, its results in ``out``."""
    files = [folder / 'in' / f'{name}{ending}', *(folder / 'out' / f'{name}{suffix}' for suffix in suffixes)]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    return Prediction(files[0], tuple(files[1:]), found=found, size=size)


def write(folder, predictions, total=None, config='c.py', checkpoint='c.pth'):
    """The page, written and read again."""
    path = folder / 'out' / 'index.html'
    total = len(predictions) if total is None else total
    path.write_text(page_html(predictions, total, config, checkpoint, path.parent), encoding='utf-8')
    return Page(path)


@pytest.mark.parametrize('name', NAMES)
def test_any_file_name_is_shown_and_found(tmp_path, name):
    folder = tmp_path / 'with #, ? and ü'
    folder.mkdir()
    page = write(folder, [predicted(folder, name, Found('sky 100 %', (SKY,)))])
    assert [file.resolve() for file in page.files()] == [
        (folder / place).resolve()
        for place in (
            f'in/{name}.jpg', f'out/{name}_overlay.png', f'out/{name}_overlay.png', f'out/{name}_labels.png',
        )
    ]  # fmt: skip
    assert f'{name}.jpg' in page.text
    assert f'{name}_labels.png' in page.text
    assert 'b' not in {tag for tag, _ in page.tags}


def test_a_file_name_that_is_no_text(tmp_path):
    name = os.fsdecode(b'caf\xe9')
    try:
        prediction = predicted(tmp_path, name, Found())
    except OSError:
        pytest.skip('this file system takes text alone')
    page = write(tmp_path, [prediction])
    assert page.files()[0].name == f'{name}.jpg'
    assert 'caf�.jpg' in page.text


def test_pictures_take_their_room_before_they_are_loaded(tmp_path):
    found = Found('sky 100 %', (SKY,))
    large, small = predicted(tmp_path, 'large', found), predicted(tmp_path, 'small', found, size=(64, 48))
    images = write(tmp_path, [large, small]).all('img')
    assert [(image['width'], image['height']) for image in images] == [('640', '480')] * 2 + [('256', '192')] * 2
    assert all(image['loading'] == 'lazy' and image['alt'] for image in images)
    assert [image.get('class') for image in images] == [None, None, 'enlarged', 'enlarged']


def test_the_legend_has_the_classes_of_most_images_first(tmp_path):
    predictions = [
        predicted(tmp_path, 'a', Found('', (SEA,))),
        predicted(tmp_path, 'b', Found('', (SKY, SEA))),
        predicted(tmp_path, 'c', Found('', (SKY, ('unlabelled', (0, 0, 0))))),
        predicted(tmp_path, 'd', Found('', (SKY,))),
    ]
    page = write(tmp_path, predictions)
    colours = [tag['style'] for tag in page.all('i')]
    assert colours == ['background:rgb(6, 230, 230)', 'background:rgb(9, 7, 230)', 'background:rgb(0, 0, 0)']
    first = page.text.index('sky')
    assert page.text[first : first + 3] == ['sky', 'sea & <shore>', 'unlabelled']
    assert not write(tmp_path, [predicted(tmp_path, 'e', Found('3 box(es)'))]).all('ul')


def test_best_classes_as_a_table(tmp_path):
    found = Found('<cat> 0.750', top=(('<cat>', 0.75), ('dog', 0.0004)))
    page = write(tmp_path, [predicted(tmp_path, 'x_overlay', found, ('.json',))])
    assert [tag['style'] for tag in page.all('b')] == ['width:75.0%', 'width:0.0%']
    first = page.text.index('<cat>')
    assert page.text[first : first + 4] == ['<cat>', '0.750', 'dog', '0.000']
    assert [file.name for file in page.files()] == ['x_overlay.jpg', 'x_overlay.json']


@pytest.mark.parametrize('ending', ['.tif', '.TIFF', '.ppm'])
def test_what_browsers_do_not_show(tmp_path, ending):
    page = write(tmp_path, [predicted(tmp_path, 'a', Found('', (SKY,)), ending=ending)])
    assert [image['src'] for image in page.all('img')] == ['a_overlay.png']
    assert f'The input is not shown: browsers do not show {ending}.' in page.text
    page = write(tmp_path, [predicted(tmp_path, 'a', Found('x', top=(('x', 1.0),)), ('.json',), ending)])
    assert not page.all('img')
    assert f'a{ending}' in page.text


def test_skipped_and_missing_images(tmp_path):
    good = predicted(tmp_path, 'good', Found())
    skipped = Prediction(Path('in/<bad>.jpg'), error='cannot be read as an image: <eof> & more')
    page = write(tmp_path, [skipped, good], total=7)
    assert '1, 1 skipped, 5 not reached: the run was interrupted' in page.text
    assert '<bad>.jpg: cannot be read as an image: <eof> & more' in page.text
    assert page.text.index('Skipped') > page.text.index('good.jpg')
    assert 'interrupted' not in ' '.join(write(tmp_path, [good]).text)
    assert 'Skipped' not in write(tmp_path, [good]).text
    write(tmp_path, [skipped])


def test_it_needs_nothing_else(tmp_path):
    """No script, style sheet, font or picture from elsewhere; the config's name is text."""
    page = write(tmp_path, [predicted(tmp_path, 'a', Found('', (SKY,)))], config='a<script>.py', checkpoint='</dl>.pth')
    assert {tag for tag, _ in page.tags}.isdisjoint({'script', 'link', 'iframe', 'base'})
    assert 'url(' not in page.path.read_text()
    assert '@import' not in page.path.read_text()
    assert {'a<script>.py', '</dl>.pth'} <= set(page.text)
    assert {'charset': 'utf-8'} in page.all('meta')


def test_a_single_image_has_no_page(tmp_path):
    (tmp_path / 'a.jpg').touch()
    assert page_path(tmp_path / 'a.jpg', tmp_path / 'out') is None
    assert page_path(tmp_path, tmp_path / 'out') == tmp_path / 'out/index.html'
