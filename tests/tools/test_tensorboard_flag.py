import sys

from tool_runner import run


def test_flag_without_the_package_is_one_line_and_starts_nothing(toy_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    assert run('train.py', toy_config, '--tensorboard') == 2
    err = capsys.readouterr().err
    assert err.startswith('error: TensorboardVisBackend of the visualizer needs the package tensorboard')
    assert err.count('\n') == 1
    assert not (tmp_path / 'work_dirs').exists()
