import argparse
from pathlib import Path

import authors_nets as authors
import authors_unirep as unirep
import pytest
import torch
from tool_runner import run

from pelk_mm.apis.load_model import load_model
from pelk_mm.engine.config import load_config

TOOL = 'model_converters/convert_weights.py'
SMALL = ((1, 1, 1, 1), (8, 8, 8, 8))


@pytest.fixture
def published(project):
    """A file as the authors of ConvNeXt publish theirs, in the folder of the configs."""
    state = authors.convnext_state(*SMALL)
    torch.save({'model': state, 'args': argparse.Namespace(model='convnext_tiny'), 'epoch': 299}, 'convnext.pth')
    return state


def test_convert_then_evaluate(published, capsys):
    assert run(TOOL, 'convnext-to-pelk', 'convnext.pth', 'ours.pth') == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f'read: {len(published)} keys of model'
    assert lines[1].startswith("backbone: dict(type='pelk_mm.PeLK', width_factor=1.0, conv_ratio=1.0, central_size=7, ")
    assert lines[2:] == [
        "head: dict(type='LinearClsHead', num_classes=3, in_channels=8)",
        'written: ours.pth',
    ]
    # the line that the tool prints is what a config says
    backbone = lines[1].removeprefix('backbone: ')
    config = Path('cls.py').read_text() + f'model.update(backbone={backbone})\n'
    Path('warm.py').write_text(config)
    assert run('test.py', 'warm.py', 'ours.pth') == 0
    model = load_model(load_config('warm.py'), 'ours.pth', 'cpu', deploy=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), authors.convnext(published, x)[1], rtol=1e-4, atol=1e-5)

    assert run(TOOL, 'convnext-to-pelk', 'convnext.pth', 'ours.pth') == 2
    assert 'ours.pth exists: pass --overwrite' in capsys.readouterr().err
    assert run(TOOL, 'convnext', 'convnext.pth', 'ours.pth', '--overwrite') == 0
    assert "backbone: dict(type='mmpretrain.ConvNeXt', arch=" in capsys.readouterr().out


def test_options(project, capsys):
    state = unirep.shiftwise_state(*SMALL, kernel_sizes=(13, 11, 9, 7))
    torch.save({'model': {'extra': torch.ones(1)}, 'model_ema': {**state, 'extra': torch.ones(1)}}, 'sw.pth')
    options = ('--entry', 'model_ema', '--backbone-options', 'kernel_sizes=13,11,9,7', 'edges=2')
    assert run(TOOL, 'shiftwise', 'sw.pth', 'ours.pth', *options, '--ignore', 'ext.*') == 0
    out = capsys.readouterr().out
    assert f'read: {len(state)} keys of model_ema (--entry model would read others)\nignored: extra\n' in out
    assert 'kernel_sizes=[13, 11, 9, 7], edges=2)' in out
    assert '\ntaken on trust: kernel_sizes=[13, 11, 9, 7], edges=2: ' in out
    with pytest.raises(SystemExit):
        run(TOOL, 'shiftwise', 'sw.pth', 'other.pth', '--backbone-options', 'notkv')
    assert "argument --backbone-options: expected KEY=VALUE, but got 'notkv'" in capsys.readouterr().err


def test_errors_are_one_line(published, capsys):
    for args, message in (
        (('slak', 'convnext.pth', 'out.pth'), 'is not of family slak: missing, or of another shape: what is backbone.'),
        (('slak', 'none.pth', 'out.pth'), 'checkpoint none.pth does not exist'),
        (('slak', 'slak_tinny.in1k', 'out.pth'), 'as a file or as a name; near: slak_tiny.in1k'),
        (('slak', 'slak_tiny.in1k', 'out.pth'), 'have no address of their own: download them from https://github.com/'),
        (('convnext', 'convnext.pth', 'out.pth', '--sha256', '0' * 8), 'its SHA-256 is not 00000000'),
        (('resnet', 'convnext.pth', 'out.pth'), 'family must be one of shiftwise, slak'),
        (('convnext', 'convnext.pth', 'convnext.pth'), 'is an input of this command: choose another name'),
        (('convnext', 'convnext.pth', 'out.pth', '--arch', 'tiny'), "arch='tiny'): missing: stages.0.1."),
        (('convnext', 'convnext.pth', 'out.pth', '--entry', 'model_ema'), 'has no entry model_ema; it has model'),
    ):
        assert run(TOOL, *args) == 2
        error = capsys.readouterr().err
        assert error.startswith('error: ')
        assert error.count('\n') == 1
        assert message in error
    assert not Path('out.pth').exists()
    assert run(TOOL, 'convnext', 'convnext.pth', 'convnext.pth/out.pth') == 2
    error = capsys.readouterr().err
    assert error.startswith('error: convnext.pth/out.pth cannot be written: ')
    assert error.count('\n') == 1


def test_help_names_the_families(capsys):
    with pytest.raises(SystemExit):
        run(TOOL, '--help')
    assert 'convnext-to-pelk' in capsys.readouterr().out
