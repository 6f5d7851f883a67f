"""Outputs that exist already or cannot be written: every tool says so before it works."""

import os
from pathlib import Path

import pytest

# Every flag that names a file or a folder to write, and the tool's other arguments; OUT stands for the place.
FILES = {
    'test': ('test.py', 'cls.py', 'cls.pth', '--out', 'OUT.pkl'),
    'get_flops': ('analysis_tools/get_flops.py', 'seg.py', '--shape', 64, 64, '--json', 'OUT.json'),
    'untrained': ('analysis_tools/save_untrained.py', 'seg.py', 'OUT.pth'),
    'report': ('analysis_tools/segmentation_report.py', 'seg.py', 'labels', '--sheet', 'OUT.png'),
    'benchmark': ('analysis_tools/benchmark.py', 'op', '--size', 8, 8, '--json', 'OUT.json'),
    'kernel': ('analysis_tools/plot_kernel.py', 'seg.py', 'seg.pth', '--out', 'OUT.png'),
    'designs': ('analysis_tools/plot_kernel_designs.py', '--out', 'OUT.png'),
    'macs': ('analysis_tools/plot_macs.py', '--out', 'OUT.png'),
    'parameters': ('analysis_tools/plot_parameters.py', '--out', 'OUT.png'),
    'field': ('analysis_tools/plot_receptive_field.py', 'cls.py', 'labels', '--out', 'OUT.png'),
    'merge': ('model_converters/reparameterize_model.py', 'seg.py', 'seg.pth', 'OUT.pth'),
    'remove_masks': ('model_converters/remove_masks.py', 'seg.pth', 'OUT.pth'),
    'convert': ('model_converters/convert_weights.py', 'slak', 'seg.pth', 'OUT.pth'),
}
FOLDERS = {
    'label maps': ('test.py', 'seg.py', 'seg.pth', '--out', 'OUT'),
    'pictures': ('test.py', 'seg.py', 'seg.pth', '--show-dir', 'OUT'),
    'toy data': ('make_toy_data.py', 'OUT', '--train', 8, '--val', 8, '--size', 64),
}


@pytest.fixture
def place(seg):
    Path('labels').mkdir()
    return seg


def arguments(name, out):
    tool, *args = {**FILES, **FOLDERS}[name]
    return [tool, *(str(arg).replace('OUT', out) for arg in args)]


def suffix_of(name):
    return Path(next(str(arg) for arg in FILES[name] if str(arg).startswith('OUT'))).suffix


@pytest.mark.parametrize('name', FILES)
def test_a_file_that_exists_stays(place, refuse, name):
    Path(f'mine{suffix_of(name)}').write_text('mine')
    refuse(r'mine\..* exists: pass --overwrite to replace it', *arguments(name, 'mine'))


@pytest.mark.parametrize('kind', ['folder', 'below a file', 'long', 'loop of links', 'dangling link', 'device'])
@pytest.mark.parametrize('name', FILES)
def test_a_file_that_cannot_be(place, refuse, name, kind):
    out, suffix = {'long': 'x' * 300, 'below a file': 'seg.py/mine'}.get(kind, 'mine'), suffix_of(name)
    if kind == 'folder':
        Path(f'mine{suffix}').mkdir()
    elif kind == 'loop of links':
        os.symlink(f'mine{suffix}', f'mine{suffix}')
    elif kind == 'dangling link':
        os.symlink('nowhere', f'mine{suffix}')
    elif kind == 'device':
        os.mkfifo(f'mine{suffix}')
    refuse('mine|x{30}', *arguments(name, out), '--overwrite')


@pytest.mark.parametrize('name', FOLDERS)
def test_a_folder_that_holds_something_stays(place, refuse, name):
    Path('mine').mkdir()
    Path('mine/a.png').write_text('mine')
    refuse('mine is not empty[:;].*--overwrite', *arguments(name, 'mine'))


@pytest.mark.parametrize('kind', ['file', 'below a file', 'long', 'loop of links'])
@pytest.mark.parametrize('name', FOLDERS)
def test_a_folder_that_cannot_be(place, refuse, name, kind):
    out = {'long': 'x' * 300, 'below a file': 'seg.py/mine', 'loop of links': 'loop'}.get(kind, 'seg.py')
    os.symlink('loop', 'loop')
    refuse('mine|x{30}|loop|seg.py', *arguments(name, out))


@pytest.mark.parametrize(
    'args',
    [
        ('test.py', 'cls.py', 'cls.pkl', '--out', 'cls.pkl'),
        ('analysis_tools/get_flops.py', 'seg.py', '--shape', 64, 64, '--json', 'seg.py'),
        ('analysis_tools/save_untrained.py', 'seg.py', 'seg.py'),
        ('model_converters/reparameterize_model.py', 'seg.py', 'seg.pth', 'seg.pth'),
        ('model_converters/remove_masks.py', 'seg.pth', 'link.pth'),
        ('model_converters/convert_weights.py', 'slak', 'seg.pth', './seg.pth'),
    ],
    ids=lambda args: Path(args[0]).stem,
)
def test_an_input_is_never_replaced(place, refuse, args):
    Path('cls.pth').rename('cls.pkl')
    os.symlink('seg.pth', 'link.pth')
    refuse('is an input of this command', *args, '--overwrite')


@pytest.mark.parametrize('page', ['absent.md', 'seg.py', 'labels', 'no\udce4me.md'])
@pytest.mark.parametrize('tool', ['zoo.py', 'published_rows.py'])
def test_a_page_without_a_place_for_the_table(place, refuse, tool, page):
    refuse('absent.md|seg.py has no place|labels|me.md', f'analysis_tools/{tool}', '--page', page)
