"""A sparse training of 22 iterations on a model a few numbers wide, and a hook that notes what happens."""

import copy
import math

import torch
from forked import forget_earlier_runs
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS
from torch import nn

from pelk_mm import DynamicSparsityHook
from pelk_mm.apis.train import train

SPARSE = {'type': 'pelk_mm.DynamicSparsityHook', 'update_interval': 3, 'sparsity': 0.5, 'prune_rate': 0.3}
FIXED = {'type': 'pelk_mm.DynamicSparsityHook', 'mode': 'fixed'}
EMA = {'type': 'EMAHook', 'momentum': 0.25}
NAMES = ['backbone.0.weight', 'backbone.3.weight', 'head.weight']
LAST = 'work_dirs/toy/epoch_2.pth'


@MODELS.register_module(force=True)
class SparseToy(BaseModel):
    """Linears, BatchNorm, dropout: whatever a SNIP pass could disturb."""

    def __init__(self, blow_up=(), classes=2):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(4, 20), nn.BatchNorm1d(20), nn.Dropout(0.2), nn.Linear(20, 20), nn.ReLU()
        )
        self.head = nn.Linear(20, classes)
        self.blow_up, self.calls = blow_up, 0

    def forward(self, x, y, mode='tensor'):
        logits = self.head(self.backbone(x))
        if mode != 'loss':
            return list(logits)
        self.calls += 1
        factor = math.inf if self.calls in self.blow_up else 1.0
        return {'loss': nn.functional.cross_entropy(logits, y) * factor}


@HOOKS.register_module(force=True)
class DensityRecordHook(Hook):
    """Notes masks and weights after each iteration, after every other hook."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.masks, self.weights, self.averages, self.steps, self.start, self.scores = [], [], [], [], None, {}
        self.dense = copy_of(runner.model.state_dict())

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.start is not None:
            return
        self.start = copy_of(runner.model.state_dict())
        # SNIP restated: the dense weights, the batch and the random state of the first step, one backward pass.
        with torch.random.fork_rng():
            model = copy.deepcopy(runner.model)
            model.load_state_dict(self.dense)
            model(**data_batch, mode='loss')['loss'].backward()
        masked = sparse_hook(runner).weights
        trained = {n: w for n, w in model.named_parameters() if n in masked and w.requires_grad}
        self.scores = {n: abs(w.detach().numpy() * w.grad.numpy()) for n, w in trained.items()}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        sparse = sparse_hook(runner)
        self.masks.append(copy_of(sparse.state.masks))
        self.steps.append(sparse.state.step)
        self.weights.append(copy_of(runner.model.state_dict()))
        averaging = [hook for hook in runner.hooks if hasattr(hook, 'ema_model')]
        if averaging:
            self.averages.append(copy_of(averaging[0].ema_model.module.state_dict()))


def copy_of(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def sparse_hook(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, DynamicSparsityHook))


def recorded(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, DensityRecordHook))


def make_trainer(config):
    """Give a function that trains the model above for 22 iterations, with the hooks and options it is given."""
    base = {
        'model': {'type': 'SparseToy', '_delete_': True},
        'train_dataloader.dataset.size': 44,
        'train_dataloader.sampler.shuffle': True,
        'train_cfg.max_epochs': 2,
    }

    def run(*hooks, work_dir=None, resume=None, overwrite=False, **options):
        arguments = {'work_dir': work_dir, 'resume': resume, 'overwrite': overwrite}
        options = {key.replace('__', '.'): value for key, value in options.items()}
        custom = [{'type': 'DensityRecordHook'}, *hooks] if hooks else []
        forget_earlier_runs()
        return train(config, cfg_options={**base, 'custom_hooks': custom, **options}, **arguments)

    return run
