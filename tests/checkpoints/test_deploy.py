import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from torch import nn

from pelk_mm.apis.test import evaluate
from pelk_mm.apis.train import train
from pelk_mm.checkpoints.deploy import can_be_deployed, is_deployed, switch_to_deploy
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.converters.reparameterize import reparameterize
from pelk_mm.engine.switch_to_deploy_hook import SwitchToDeployHook
from pelk_mm.registry import HOOKS
from pelk_mm.utils.errors import CheckpointError, ConfigError


class Branches(nn.Module):
    """Two branches that merge into one."""

    def __init__(self, width=4):
        super().__init__()
        self.a, self.b = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.inner = Inner()
        self.merged = None

    def forward(self, x):
        return self.a(x) + self.b(x) if self.merged is None else self.merged(x)

    def switch_to_deploy(self):
        if self.merged is None:
            self.merged = nn.Linear(4, 4, bias=False)
            self.merged.weight.data = self.a.weight.data + self.b.weight.data
            del self.a, self.b


class Inner(nn.Module):
    def switch_to_deploy(self):
        raise AssertionError('what lies inside a module that switches is its own affair')


@MODELS.register_module(force=True)
class MergingModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = Branches()
        self.head = nn.Linear(4, 2)

    def forward(self, x, y, mode='tensor'):
        logits = self.head(self.backbone(x))
        return {'loss': nn.functional.cross_entropy(logits, y)} if mode == 'loss' else list(logits)


@METRICS.register_module(force=True)
class LogitsMetric(BaseMetric):
    """The mean square of all logits, which tells one set of weights from another."""

    def process(self, data_batch, data_samples):
        self.results += [float(logits.square().mean()) for logits in data_samples]

    def compute_metrics(self, results):
        return {'mean': sum(results) / len(results)}


def test_outermost_modules_switch():
    net = nn.Sequential(nn.Sequential(Branches(), nn.ReLU()), Branches())
    x = torch.randn(2, 4)
    before = net(x)
    assert can_be_deployed(net)
    assert switch_to_deploy(net) == ['1', '0.0']
    torch.testing.assert_close(net(x), before)
    assert switch_to_deploy(nn.Linear(1, 1)) == []
    assert not can_be_deployed(nn.Linear(1, 1))


def test_hook_is_registered_and_switches_before_testing_only(toy_config):
    assert HOOKS.build({'type': 'pelk_mm.SwitchToDeployHook'}).__class__ is SwitchToDeployHook
    options = {'model': {'type': 'MergingModel', '_delete_': True}, 'train_cfg.max_epochs': 1}
    options['custom_hooks'] = [{'type': 'SwitchToDeployHook'}]
    runner = train(toy_config, cfg_options=options)  # with validation
    assert runner.model.backbone.merged is None
    runner.test()
    assert runner.model.backbone.merged is not None


def test_deployed_checkpoints_are_recognised(toy_config):
    options = {'model': {'type': 'MergingModel', '_delete_': True}, 'train_cfg.max_epochs': 1}
    train(toy_config, cfg_options=options)
    path = 'work_dirs/toy/epoch_1.pth'
    evaluate(toy_config, path, cfg_options=options, deploy=True)
    model = MergingModel()
    model.load_state_dict(read_checkpoint(path)['state_dict'])
    switch_to_deploy(model)
    torch.save({'state_dict': model.state_dict(), 'meta': {'deploy': True}}, 'deployed.pth')
    assert is_deployed(read_checkpoint('deployed.pth'))
    assert not is_deployed(read_checkpoint(path))
    for deploy in (False, True):
        assert evaluate(toy_config, 'deployed.pth', cfg_options=options, deploy=deploy) == {'acc': 1.0}
    with pytest.raises(CheckpointError, match='deployed.pth is in its deployed form, which cannot be trained'):
        train(toy_config, work_dir='new', cfg_options={**options, 'load_from': 'deployed.pth'})
    with pytest.raises(CheckpointError, match='deployed.pth is in its deployed form already'):
        reparameterize(toy_config, 'deployed.pth', 'twice.pth', cfg_options=options)


def test_models_without_a_deployed_form(toy_config):
    train(toy_config, cfg_options={'train_cfg.max_epochs': 1})
    with pytest.raises(ConfigError, match=r'--deploy: the model of .*toy.py has no module with switch_to_deploy'):
        evaluate(toy_config, 'work_dirs/toy/epoch_1.pth', deploy=True)


@pytest.mark.parametrize('way', ['flag', 'file', 'hook'])
def test_averaged_weights_are_tested_in_deployed_form(toy_config, tmp_path, way):
    """EMAHook keeps a copy of the model, and swaps weights with it around a test."""
    ema = {'type': 'EMAHook', 'momentum': 0.5, 'update_buffers': True}
    options = {'model': {'type': 'MergingModel', '_delete_': True}, 'train_cfg.max_epochs': 2, 'custom_hooks': [ema]}
    options |= {'test_evaluator': {'type': 'LogitsMetric', '_delete_': True}, 'work_dir': str(tmp_path / 'run')}
    train(toy_config, cfg_options=options)
    checkpoint = str(tmp_path / 'run' / 'epoch_2.pth')
    expected = evaluate(toy_config, checkpoint, cfg_options=options)
    assert read_checkpoint(checkpoint)['ema_state_dict']
    if way == 'file':
        checkpoint, trained = str(tmp_path / 'deployed.pth'), checkpoint
        state = read_checkpoint(trained)['state_dict']
        merged = state.pop('backbone.a.weight') + state.pop('backbone.b.weight')
        torch.save({'state_dict': {**state, 'backbone.merged.weight': merged}, 'meta': {'deploy': True}}, checkpoint)
    if way == 'hook':
        options['custom_hooks'] = [ema, {'type': 'SwitchToDeployHook'}]
    deployed = evaluate(toy_config, checkpoint, deploy=way == 'flag', cfg_options=options)
    assert deployed['mean'] == pytest.approx(expected['mean'], rel=1e-5)
