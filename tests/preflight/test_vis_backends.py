"""TensorBoard by a flag, other back-ends by config, and packages that are not there."""

import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from pelk_mm.apis.train import train
from pelk_mm.engine.config import load_config
from pelk_mm.preflight.visualizers import check_vis_backends, enable_tensorboard
from pelk_mm.utils.errors import ConfigError

LOCAL, TENSORBOARD = {'type': 'LocalVisBackend'}, {'type': 'TensorboardVisBackend'}
WANDB = {'type': 'WandbVisBackend', 'init_kwargs': {'project': 'pelk'}}


def absent(monkeypatch, *modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize(
    ('visualizer', 'expected'),
    [
        (None, {'type': 'Visualizer', 'vis_backends': [LOCAL, TENSORBOARD]}),
        ({'type': 'X'}, {'type': 'X', 'vis_backends': [TENSORBOARD]}),
        ({'type': 'X', 'vis_backends': LOCAL}, {'type': 'X', 'vis_backends': [LOCAL, TENSORBOARD]}),
        ({'type': 'X', 'vis_backends': [WANDB]}, {'type': 'X', 'vis_backends': [WANDB, TENSORBOARD]}),
        ({'type': 'X', 'vis_backends': [TENSORBOARD]}, {'type': 'X', 'vis_backends': [TENSORBOARD]}),
        (
            {'type': 'X', 'vis_backends': [{'type': 'mmengine.TensorboardVisBackend'}]},
            {'type': 'X', 'vis_backends': [{'type': 'mmengine.TensorboardVisBackend'}]},
        ),
    ],
)
def test_tensorboard_joins_the_back_ends(visualizer, expected):
    cfg = Config({'visualizer': visualizer})
    for _ in range(2):
        enable_tensorboard(cfg)
        assert cfg.visualizer.to_dict() == expected


def test_missing_packages_are_named(monkeypatch):
    absent(monkeypatch, 'wandb', 'torch.utils.tensorboard')
    check_vis_backends(Config({}))
    check_vis_backends(Config({'visualizer': {'type': 'X', 'vis_backends': [LOCAL]}}))
    with pytest.raises(
        ConfigError, match=r'WandbVisBackend of the visualizer needs the package wandb.*pip install wandb'
    ):
        check_vis_backends(Config({'visualizer': {'type': 'X', 'vis_backends': [LOCAL, WANDB]}}))
    with pytest.raises(ConfigError, match=r'TensorboardVisBackend .* pip install tensorboard, or take'):
        check_vis_backends(Config({'visualizer': {'type': 'X', 'vis_backends': TENSORBOARD}}))


def test_wandb_by_config_adds_to_what_the_parent_writes(toy_config, monkeypatch):
    Path(toy_config).with_name('child.py').write_text(
        "_base_ = './toy.py'\n"
        "visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='WandbVisBackend', "
        "init_kwargs=dict(project='pelk'))])\n"
    )
    options = {'visualizer.vis_backends.1.init_kwargs.project': 'other'}
    assert load_config('child.py', options).visualizer.vis_backends == [
        LOCAL,
        {'type': 'WandbVisBackend', 'init_kwargs': {'project': 'other'}},
    ]
    absent(monkeypatch, 'wandb')
    with pytest.raises(ConfigError, match='pip install wandb'):
        train('child.py')
    assert not Path('work_dirs').exists()


def test_tensorboard_without_the_package_writes_nothing(toy_config, monkeypatch):
    absent(monkeypatch, 'torch.utils.tensorboard')
    with pytest.raises(ConfigError, match='pip install tensorboard'):
        train(toy_config, tensorboard=True)
    assert not Path('work_dirs').exists()


def test_events_hold_what_the_log_holds(toy_config):
    accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator', reason='tensorboard is not installed'
    )
    train(toy_config, tensorboard=True, cfg_options={'default_hooks.logger': {'type': 'LoggerHook', 'interval': 1}})
    (events,) = Path('work_dirs/toy').glob('*/vis_data/events*')
    (scalars,) = Path('work_dirs/toy').glob('*/vis_data/scalars.json')
    assert scalars.stat().st_size
    read = accumulator.EventAccumulator(str(events)).Reload()
    assert {'loss', 'lr', 'acc'} <= set(read.Tags()['scalars'])
    assert [event.step for event in read.Scalars('loss')] == [1, 2, 3, 4]
