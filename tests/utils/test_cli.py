import argparse
import errno
import signal
import sys

import pytest
import torch

from pelk_mm.utils.cli import REPORTS, KeyValueAction, add_common_arguments, run_tool
from pelk_mm.utils.errors import ConfigError, InterruptedTrainingError, SaveError, doing


@pytest.fixture(autouse=True)
def _keep_handler(monkeypatch):
    for name in ('LOCAL_RANK', 'SLURM_LOCALID', 'RANK', 'PELK_MM_LOG'):
        monkeypatch.delenv(name, raising=False)
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ('error', 'status', 'line'),
    [
        (ConfigError('config a.py\ndoes not exist'), 2, 'error: config a.py does not exist'),
        (SaveError('disk full'), 1, 'error: disk full'),
        (InterruptedTrainingError('the last is a.pth'), 130, 'interrupted: the last is a.pth'),
        (KeyboardInterrupt(), 130, 'interrupted'),
        (OSError(errno.ENOSPC, 'No space left on device', 'a.log'), 1, 'error: No space left on device while writing'),
    ],
)
def test_errors_are_one_line(capsys, error, status, line):
    assert run_tool(raising(error)) == status
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith(line)
    assert err.count('\n') == 1


class TestKeyValueAction:
    def parse(self, *words):
        parser = argparse.ArgumentParser()
        add_common_arguments(parser)
        parser.add_argument('--others', nargs='+', action=KeyValueAction)
        return parser.parse_args(words)

    def test_values(self):
        args = self.parse(
            '--cfg-options', 'a.b=1', 'c=[(1,x),None]', 'd=e=f', '--cfg-options', 'a.b=2', '--others', 'g='
        )
        assert args.cfg_options == {'a.b': 2, 'c': [(1, 'x'), None], 'd': 'e=f'}
        assert args.others == {'g': ''}
        assert self.parse().cfg_options is None

    @pytest.mark.parametrize(
        ('word', 'message'),
        [
            ('foo', "expected KEY=VALUE, but got 'foo'"),
            ('=1', "expected KEY=VALUE, but got '=1'"),
            ('a=1,(2', "the brackets of 'a=1,(2' do not match"),
        ],
    )
    def test_other_words(self, capsys, word, message):
        with pytest.raises(SystemExit) as caught:
            self.parse('--cfg-options', 'b=1', word)
        assert caught.value.code == 2
        assert capsys.readouterr().err.endswith(f': error: argument --cfg-options: {message}\n')


def test_success():
    assert run_tool(lambda: None) == 0
    assert run_tool(lambda: 1) == 1


def test_a_defect_is_a_line_that_names_its_traceback(capsys, monkeypatch, tmp_path):
    def main():
        with doing('training with a.py', tmp_path):
            raise ZeroDivisionError('integer division by zero')

    assert run_tool(main) == 1
    err = capsys.readouterr().err
    assert err.startswith('error: training with a.py failed unexpectedly: ZeroDivisionError: integer division')
    assert err.count('\n') == 1
    (file,) = tmp_path.glob('pelk_mm_traceback_*.txt')
    assert err.endswith(f' (traceback in {file})\n')
    assert 'in main\n    raise ZeroDivisionError(' in file.read_text()
    # nowhere to write, and nothing noted: the command is named
    monkeypatch.setattr(sys, 'argv', ['tools/some_tool.py', 'a.py'])
    monkeypatch.setattr('tempfile.gettempdir', lambda: str(tmp_path / 'none'))
    assert run_tool(lambda: 1 // 0) == 1
    err = capsys.readouterr().err
    assert err.startswith('error: some_tool.py a.py failed unexpectedly: ZeroDivisionError: ')
    assert err.endswith(' (PELK_MM_LOG=debug shows the traceback)\n')
    monkeypatch.setenv('PELK_MM_LOG', 'debug')
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 // 0)


def test_only_the_first_process_of_a_machine_speaks(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv('LOCAL_RANK', '1')
    assert run_tool(raising(ConfigError('x')), 'pytorch') == 2
    assert capsys.readouterr().err == ''
    assert run_tool(raising(ValueError('x')), 'pytorch') == 1  # a defect may be that of one process
    assert 'failed unexpectedly: ValueError: x' in capsys.readouterr().err
    assert run_tool(raising(ConfigError('x'))) == 2  # a variable left over from elsewhere
    assert capsys.readouterr().err == 'error: x\n'
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('RANK', '8')
    run_tool(raising(ConfigError('x')), 'pytorch')
    assert capsys.readouterr().err == '[rank 8] error: x\n'
    monkeypatch.setenv(REPORTS, str(tmp_path))
    run_tool(raising(ConfigError('x')), 'pytorch')
    assert capsys.readouterr().err == ''
    assert (tmp_path / '0').read_text() == '[rank 8] error: x\n'


def test_debug_shows_the_cause(monkeypatch):
    monkeypatch.setenv('PELK_MM_LOG', 'debug')
    error = ConfigError('x')
    error.__cause__ = KeyError('y')
    with pytest.raises(ConfigError):
        run_tool(raising(error))


def test_the_process_group_is_left(tmp_path):
    def main():
        store = f'file://{tmp_path}/store'
        torch.distributed.init_process_group('gloo', init_method=store, rank=0, world_size=1)

    try:
        assert run_tool(main) == 0
        assert not torch.distributed.is_initialized()
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
