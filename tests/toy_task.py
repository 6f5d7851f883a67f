"""A task small enough to train in a second: mmengine alone, no toolbox."""

import time

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset


@MODELS.register_module()
class ToyModel(BaseModel):
    def __init__(self, width=8, norm='BatchNorm1d', init_cfg=None, data_preprocessor=None):
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = nn.Sequential(nn.Linear(4, width), getattr(nn, norm)(width))
        self.head = nn.Linear(width, 2)

    def forward(self, x, y, mode='tensor'):
        logits = self.head(self.backbone(x))
        return {'loss': nn.functional.cross_entropy(logits, y)} if mode == 'loss' else list(logits)


@DATASETS.register_module()
class ToyData(Dataset):
    metainfo = {'classes': ('a', 'b')}

    def __init__(self, size=8):
        self.x = torch.randn(size, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {'x': self.x[index], 'y': torch.tensor(index % 2)}


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Gets better in every epoch, so that every validation makes a new best checkpoint."""

    rounds = 0

    def process(self, data_batch, data_samples):
        self.results.append(len(data_samples))

    def compute_metrics(self, results):
        self.rounds += 1
        return {'acc': float(self.rounds)}


@HOOKS.register_module()
class ToyDelayHook(Hook):
    """Slows training down, for tests that interrupt it."""

    def __init__(self, seconds):
        self.seconds = seconds

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(self.seconds)


CONFIG = """
custom_imports = dict(imports=['toy_task'], allow_failed_imports=False)
default_scope = 'mmengine'
model = dict(type='ToyModel')
loader = dict(
    batch_size=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ToyData'),
)
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader
val_evaluator = dict(type='ToyMetric')
test_evaluator = dict(type='ToyMetric')
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=2)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
env_cfg = dict(dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0)
"""
