import sys

import pytest
import torch
from mmengine.config import Config

from pelk_mm.engine.config import (
    enable_amp,
    enable_auto_scale_lr,
    fit_to_device_with_notes,
    load_config,
    set_dataloader_defaults,
    set_work_dir,
    task_of,
)
from pelk_mm.utils.errors import ConfigError


def write(tmp_path, text, name='a.py'):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.txt', 'model = 1', r"a.txt is not a config: expected .py, .yml, .yaml or .json, but got '.txt'"),
        ('a.py', 'model = dict()\nlr = = 3\n', r'a.py is not valid Python: .* \(line 2\)'),
        ('a.py', b'\x80\x02\xff', r'a.py is not (a text file|valid Python)'),
        ('a.py', 'model = undefined', r"a.py cannot be loaded: NameError: name 'undefined' is not defined"),
        ('a.py', "_base_ = './none.py'", r'a.py cannot be loaded: FileNotFoundError: .*none.py'),
        ('a.py', "custom_imports = dict(imports=['no_such'])", r'a.py cannot be loaded: ImportError: .*no_such'),
        ('a.py', 'lr = 1', r"a.py defines no 'model'"),
        ('a.json', '{', r'a.json cannot be loaded'),
        ('a.py', "model = dict()\nrunner_type = 'X'", r"runner_type='X', but these tools bring their own runner"),
    ],
)
def test_bad_configs(tmp_path, name, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(tmp_path, text, name))
    assert '\n' not in str(caught.value)


def test_detectors_need_the_operators_of_mmcv(tmp_path, monkeypatch):
    pytest.importorskip('mmcv', reason='without mmcv there is no mmdet to ask for its operators')
    monkeypatch.setitem(sys.modules, 'mmcv._ext', None)  # as where it was never built
    text = "model = dict(type='CascadeRCNN')\ndefault_scope = {!r}\n"
    with pytest.raises(ConfigError, match="needs mmcv's compiled operators, .*: run bash tools/setup.sh, or") as caught:
        load_config(write(tmp_path, text.format('mmdet')))
    assert '\n' not in str(caught.value)
    assert load_config(write(tmp_path, text.format('mmseg'))).default_scope == 'mmseg'


def test_missing_config(tmp_path):
    with pytest.raises(ConfigError, match=r'config none.py does not exist \(looked for /.*none.py\)'):
        load_config('none.py')
    with pytest.raises(ConfigError, match='is a folder, not a file'):
        load_config(tmp_path)


def test_cfg_options_change_settings_or_are_refused(tmp_path):
    path = write(tmp_path, "data_root = 'x'\nmodel = dict(a=1, layers=[dict(b=2)])\n")
    cfg = load_config(path, {'model.a': 3, 'model.layers.0.b': 4, 'randomness.seed': 1})
    assert (cfg.model.a, cfg.model.layers[0].b, cfg.randomness.seed) == (3, 4, 1)
    with pytest.raises(ConfigError, match='data_root is a variable of the config file, already used; .*dataset.data_r'):
        load_config(path, {'data_root': 'y'})
    with pytest.raises(ConfigError, match="the config has no 'train_dataloder', and nothing reads it"):
        load_config(path, {'train_dataloder.batch_size': 2})
    with pytest.raises(ConfigError, match=r'--cfg-options model.layers.5.b=1 does not fit the config'):
        load_config(path, {'model.layers.5.b': 1})


def test_task_and_work_dir(tmp_path):
    assert task_of(Config({'default_scope': 'mmseg'})) == 'segmentation'
    assert task_of(Config({})) is None
    for flag, own, expected in ((None, None, 'work_dirs/a'), (None, 'own', 'own'), ('flag', 'own', 'flag')):
        cfg = Config({'work_dir': own}, filename=write(tmp_path, ''))
        set_work_dir(cfg, flag)
        assert cfg.work_dir == expected


def test_mmpretrain_dataloaders_get_what_its_tools_give():
    cfg = Config({'default_scope': 'mmpretrain', 'train_dataloader': {'num_workers': 0}, 'val_dataloader': None})
    set_dataloader_defaults(cfg)
    assert cfg.train_dataloader.collate_fn.type == 'default_collate'
    assert cfg.train_dataloader.persistent_workers is False  # PyTorch refuses it without workers
    cfg = Config({'default_scope': 'mmseg', 'train_dataloader': {'num_workers': 0}})
    set_dataloader_defaults(cfg)
    assert cfg.train_dataloader == {'num_workers': 0}


def test_flags_that_make_no_sense():
    with pytest.raises(ConfigError, match='--amp needs an optim_wrapper of type OptimWrapper, but the config has Two'):
        enable_amp(Config({'optim_wrapper': {'type': 'Two'}}))
    with pytest.raises(ConfigError, match=r'--auto-scale-lr needs auto_scale_lr=dict\(base_batch_size=N\)'):
        enable_auto_scale_lr(Config({'auto_scale_lr': {'enable': False}}))
    cfg = Config({'auto_scale_lr': {'enable': False, 'base_batch_size': 16}})
    enable_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr.enable is True


def test_amp_becomes_float32_without_a_gpu(monkeypatch):
    def make():
        cfg = Config({'optim_wrapper': {'optimizer': {'type': 'SGD'}}, 'env_cfg': {'dist_cfg': {'backend': 'nccl'}}})
        enable_amp(cfg)
        return cfg

    cfg = make()
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert fit_to_device_with_notes(cfg) == []
    assert (cfg.optim_wrapper.loss_scale, cfg.env_cfg.dist_cfg.backend) == ('dynamic', 'nccl')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert fit_to_device_with_notes(cfg) == [
        'No GPU: training in float32, since mixed precision with loss scaling needs one'
    ]
    assert cfg.optim_wrapper == {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD'}}
    assert cfg.env_cfg.dist_cfg.backend == 'gloo'
