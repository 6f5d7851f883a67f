"""The toolboxes' own tools, `mim` and inferencers with a PeLK config: nothing of ours but what the config names."""

import importlib.util
import json
import sys
from pathlib import Path

import children
import pytest
from tool_runner import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.processes]

NAMES = {'mmseg': 'seg', 'mmpretrain': 'cls', 'mmdet': 'det'}
#: What a user's config takes from this package besides the backbone, for five iterations on a machine without a GPU.
CHANGES = """
_base_ = './{name}.py'
custom_hooks = [
    dict(type='pelk_mm.DynamicSparsityHook', sparsity=0.4, update_interval=2),
    dict(type='pelk_mm.SwitchToDeployHook'),
]
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.05),
    constructor='pelk_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.9, decay_type='stage_wise'))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=5)
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler'), persistent_workers=False)
test_dataloader = dict(persistent_workers=False)
val_dataloader = val_evaluator = val_cfg = None
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=5, by_epoch=False), logger=dict(type='LoggerHook', interval=1))
log_processor = dict(by_epoch=False)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""
INFERENCE = """
import json, sys
from {toolbox}.apis import {inferencer} as Inferencer
inferencer = Inferencer('own.py', {weights}'work/iter_5.pth', device='cpu')
result = inferencer({image!r})
result = result['predictions'] if isinstance(result, dict) else result[0]
print('RESULT', type(result).__name__)
"""
INFERENCERS = {'mmseg': 'MMSegInferencer', 'mmpretrain': 'ImageClassificationInferencer', 'mmdet': 'DetInferencer'}


def toolbox_of(toolbox):
    """The folder of an installed toolbox that holds its tools and configs."""
    if importlib.util.find_spec(toolbox) is None:
        pytest.skip(f'{toolbox} is not installed')
    if toolbox in ('mmseg', 'mmdet') and not has_operators():
        pytest.skip(f'{toolbox} needs an mmcv with operators')
    (package,) = importlib.util.find_spec(toolbox).submodule_search_locations
    return Path(package, '.mim')


def has_operators():
    (folder,) = importlib.util.find_spec('mmcv').submodule_search_locations
    return any(Path(folder).glob('_ext*'))


def succeeds(*command):
    done = children.run([sys.executable, *command])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def logged(work_dir):
    """The scalars of a training, one dict an iteration."""
    (file,) = Path(work_dir).glob('*/vis_data/scalars.json')
    return [line for line in map(json.loads, file.read_text().splitlines()) if 'loss' in line]


@pytest.fixture
def own(project):
    """Write the user's config for a toolbox; return its name."""

    def write(toolbox):
        Path('own.py').write_text(CHANGES.format(name=NAMES[toolbox]))
        return 'own.py'

    return write


@pytest.mark.parametrize('toolbox', NAMES)
def test_the_toolbox_trains_tests_and_infers(toolbox, own, tool_data):
    tools, config = toolbox_of(toolbox) / 'tools', own(toolbox)
    output = succeeds(tools / 'train.py', config, '--work-dir', 'work')
    assert 'LayerDecayOptimWrapperConstructor' in Path('work/own.py').read_text()
    lines = logged('work')
    assert len(lines) == 5
    assert 0.59 < lines[-1]['density'] < 0.9  # layers this narrow keep more than the sparsity asked for
    output = succeeds(tools / 'test.py', config, 'work/iter_5.pth', '--work-dir', 'tested')
    assert 'Switched to the deployed form' in output
    code = INFERENCE.format(
        toolbox=toolbox,
        inferencer=INFERENCERS[toolbox],
        weights='pretrained=' if toolbox == 'mmpretrain' else '',
        image=str(tool_data / 'images' / '0.jpg'),
    )
    assert 'RESULT' in succeeds('-c', code)


@pytest.mark.parametrize('toolbox', NAMES)
def test_ours_trains_the_same_config(toolbox, own):
    toolbox_of(toolbox)
    succeeds(ROOT / 'tools' / 'train.py', own(toolbox), '--work-dir', 'work')
    assert len(logged('work')) == 5


def test_mim_trains_and_tests(own):
    if importlib.util.find_spec('mim') is None:
        pytest.skip('mim is not installed: pip install openmim')
    toolbox_of('mmseg')
    mim = ('-c', 'from mim.cli import cli; cli()')
    config = own('mmseg')
    succeeds(*mim, 'train', 'mmsegmentation', config, '--launcher', 'none', '--gpus', '0', '--work-dir', 'work')
    assert len(logged('work')) == 5
    succeeds(
        *mim, 'test', 'mmsegmentation', config, '--checkpoint', 'work/iter_5.pth', '--launcher', 'none', '--gpus', '0'
    )


@pytest.mark.parametrize('tool', ['ours', 'mmseg'])
def test_the_demo_config_trains_five_iterations(tool, tmp_path, monkeypatch):
    train = {'ours': ROOT / 'tools' / 'train.py', 'mmseg': toolbox_of('mmseg') / 'tools' / 'train.py'}[tool]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PELK_MM_DATA', str(tmp_path))
    succeeds(ROOT / 'tools' / 'make_toy_data.py', 'toy', '--size', '64', '--train', '16', '--val', '8')
    options = ('train_cfg.max_iters=5', 'train_cfg.val_interval=5', 'default_hooks.logger.interval=1')
    config = ROOT / 'configs' / 'demo' / 'upernet_pelk_atto_toy_64.py'
    succeeds(train, config, '--work-dir', 'work', '--cfg-options', *options)
    losses = [line['loss'] for line in logged('work')]
    assert len(losses) == 5
    assert all(0 < loss < 10 for loss in losses), losses
