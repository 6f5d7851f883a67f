from pathlib import Path

from tool_runner import load_tool

from pelk_mm.utils.cli import run_tool

ROOT = Path(__file__).parents[2]


def run(*args):
    """The tool in this process: starting Python and importing torch takes seconds."""
    tool = load_tool('make_toy_data.py')
    return run_tool(lambda: tool.main([str(arg) for arg in args]))


def test_writes_and_then_refuses(tmp_path, capsys):
    small = (tmp_path / 'toy', '--train', 8, '--val', 7, '--size', 64)
    assert run(*small) == 0
    assert '8 training and 7 validation scenes of 64x64' in capsys.readouterr().out
    assert len(list((tmp_path / 'toy/images/training').iterdir())) == 8
    assert run(*small) == 2
    message = capsys.readouterr().err
    assert message.startswith('error: ')
    assert 'is not empty' in message
    assert run(*small, '--overwrite') == 0


def test_errors_are_one_line(tmp_path, capsys):
    for args, message in (
        (('--train', 1), 'error: --train must be at least 7, or a class would be missing; got 1'),
        (('--size', 5), 'error: --size must be at least 64 pixels, got 5'),
    ):
        assert run(tmp_path / 'toy', *args) == 2
        assert capsys.readouterr().err == message + '\n'
        assert not (tmp_path / 'toy').exists()
    # A device is no folder, whoever runs the test.
    assert run('/dev/null/toy') == 2
    assert capsys.readouterr().err == 'error: /dev/null/toy cannot be written: /dev/null is not a folder\n'
