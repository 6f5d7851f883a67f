"""The tools that tools/demo.sh is made of, on a net and scenes that take no time."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_runner import load_tool

pytest.importorskip('mmseg', reason='the demo trains a segmentor')

from mmengine.registry import DefaultScope

from pelk_mm.datasets import ToyDataset, write_toy_dataset
from pelk_mm.utils.cli import run_tool

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/demo/upernet_pelk_atto_toy.py'


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv('PELK_MM_DATA', str(tmp_path))
    monkeypatch.setattr(sys, 'path', sys.path.copy())
    write_toy_dataset(tmp_path / 'toy', ToyDataset(train=8, val=7, size=64))
    return tmp_path / 'toy'


def run(name, *args):
    """A tool in this process: starting Python and importing torch takes seconds."""
    tool = load_tool('test.py' if name == 'test' else f'analysis_tools/{name}.py')
    return run_tool(lambda: tool.main([str(arg) for arg in args]))


def predict_sky(folder):
    folder.mkdir()
    for i in range(7):
        Image.fromarray(np.ones((64, 64), np.uint8)).save(folder / f'ADE_val_{i + 1:08d}.png')
    return folder


def test_report_prints_the_table_and_writes_the_sheet(toy, tmp_path, capsys):
    folder = predict_sky(tmp_path / 'predictions')
    sheet = tmp_path / 'new/sheet.png'
    assert run('segmentation_report', CONFIG, folder, '--untrained', folder, '--sheet', sheet, '--images', 2) == 0
    out = capsys.readouterr().out
    assert '7 images, 9 classes present' in out
    assert 'untrained' in out
    assert f'pictures: {sheet}' in out
    assert Image.open(sheet).width > 3 * 240


def test_report_names_what_is_missing(toy, tmp_path, capsys, monkeypatch):
    assert run('segmentation_report', CONFIG, tmp_path / 'nowhere') == 2
    assert 'no prediction' in capsys.readouterr().err
    assert run('segmentation_report', CONFIG, tmp_path, '--images', 0) == 2
    assert '--images must be at least 1, got 0' in capsys.readouterr().err
    monkeypatch.setenv('PELK_MM_DATA', str(tmp_path / 'empty'))
    assert run('segmentation_report', CONFIG, tmp_path) == 2
    assert capsys.readouterr().err.startswith('error: data_root')


def test_report_refuses_predictions_of_another_size(toy, tmp_path, capsys):
    folder = predict_sky(tmp_path / 'predictions')
    Image.fromarray(np.ones((32, 64), np.uint8)).save(folder / 'ADE_val_00000003.png')
    assert run('segmentation_report', CONFIG, folder) == 2
    message = capsys.readouterr().err
    assert 'ADE_val_00000003.jpg' in message
    assert 'truth and prediction must have one shape, got (64, 64) and (32, 64)' in message


def test_untrained_net_is_saved_scored_and_shown(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())
    monkeypatch.setenv('LOCAL_RANK', '0')
    out = tmp_path / 'out'
    assert run('save_untrained', CONFIG, tmp_path / 'start.pth') == 0
    assert run('test', CONFIG, tmp_path / 'start.pth', '--work-dir', tmp_path / 'work', '--out', out) == 0
    theirs = re.search(r'aAcc: ([0-9.]+)', capsys.readouterr().out)
    assert run('segmentation_report', CONFIG, out) == 0
    ours = re.search(r'pixel accuracy +([0-9.]+) %', capsys.readouterr().out)
    assert float(ours[1]) == pytest.approx(float(theirs[1]), abs=0.06)


def test_untrained_needs_a_config(tmp_path, capsys):
    assert run('save_untrained', tmp_path / 'none.py', tmp_path / 'start.pth') == 2
    assert 'does not exist' in capsys.readouterr().err
