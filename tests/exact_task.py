"""A task in which every kind of randomness and of state matters: what exact resuming has to bring back."""

import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset


@MODELS.register_module()
class ExactModel(BaseModel):
    def __init__(self, dropout=0.3, norm_eval=False):
        super().__init__()
        self.norm_eval = norm_eval
        self.body = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(12, 3)

    def train(self, mode=True):
        super().train(mode)
        if self.norm_eval:
            self.body[1].eval()
        return self

    def forward(self, x, y, mode='tensor'):
        if mode == 'loss' and self.training and not self.norm_eval:  # a mixup, in the main process
            x = x + 0.01 * random.random() * x.flip(0) + 0.01 * np.random.rand()
        logits = self.head(self.body(x))
        return {'loss': nn.functional.cross_entropy(logits, y)} if mode == 'loss' else list(logits)


@DATASETS.register_module()
class ExactData(Dataset):
    """Random augmentation of all three kinds; ``log`` names a folder where every read of a sample is noted."""

    metainfo = {'classes': ('a', 'b', 'c')}

    def __init__(self, size=22, augment=True, log=None):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(size, 6, generator=generator)
        self.y = torch.randint(3, (size,), generator=generator)
        self.augment = augment
        self.log = log

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        x = self.x[index]
        if self.augment:
            x = x * (1 + 0.1 * random.random()) + 0.1 * np.random.rand() + 0.1 * torch.randn(6)
        if self.log:
            with open(self.log, 'a') as file:
                file.write(f'{index}\n')
        return {'x': x, 'y': self.y[index]}


@METRICS.register_module()
class ExactMetric(BaseMetric):
    """A score that draws random numbers on the way, as some heads do."""

    default_prefix = 'exact'

    def process(self, data_batch, data_samples):
        random.random(), np.random.rand(), torch.rand(1)
        self.results.append(float(torch.stack(data_samples).abs().mean()))

    def compute_metrics(self, results):
        return {'score': sum(results)}


@HOOKS.register_module()
class RecordHook(Hook):
    """Notes every iteration's loss, one file for each process."""

    priority = 'LOWEST'

    def __init__(self, folder):
        self.folder = folder

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        line = {'iter': runner.iter, 'batch': batch_idx, 'loss': float(outputs['loss'])}
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        with open(Path(self.folder, f'{get_rank()}.jsonl'), 'a') as file:
            file.write(json.dumps(line) + '\n')


@HOOKS.register_module()
class StopHook(Hook):
    """Ends the run as Ctrl-C would, in an iteration or in a validation; the iteration's checkpoint is not saved yet."""

    def __init__(self, at=None, in_validation=None):
        self.at = at
        self.in_validation = in_validation

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.at:
            raise KeyboardInterrupt

    def before_val_epoch(self, runner):
        if runner.iter == self.in_validation:
            raise KeyboardInterrupt


@HOOKS.register_module()
class DelayHook(Hook):
    """Makes iterations long enough to be killed in."""

    def __init__(self, seconds):
        self.seconds = seconds

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(self.seconds)


EPOCHS = """
custom_imports = dict(imports=['exact_task'], allow_failed_imports=False)
default_scope = 'mmengine'
model = dict(type='ExactModel')
loader = dict(
    batch_size=4,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ExactData'),
)
train_dataloader = loader
val_dataloader = loader
val_evaluator = dict(type='ExactMetric')
train_cfg = dict(by_epoch=True, max_epochs=4)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=4),
    dict(type='ReduceOnPlateauLR', monitor='exact/score', rule='less', patience=0, factor=0.7),
]
custom_hooks = [dict(type='EMAHook', momentum=0.1, update_buffers=True)]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1, save_best='exact/score', rule='less', max_keep_ckpts=2))
randomness = dict(seed=3)
"""

ITERATIONS = EPOCHS
for old, new in (
    (
        'train_dataloader = loader',
        "train_dataloader = {**loader, 'sampler': dict(type='InfiniteSampler', shuffle=True)}",
    ),
    ('by_epoch=True, max_epochs=4', 'by_epoch=False, max_iters=20, val_interval=5'),
    ('end=1, convert_to_iter_based=True', 'end=5, by_epoch=False'),
    ('begin=1, end=4', 'begin=5, end=20, by_epoch=False'),
    ("type='CheckpointHook', interval=1", "type='CheckpointHook', interval=3, by_epoch=False"),
):
    assert old in ITERATIONS, old
    ITERATIONS = ITERATIONS.replace(old, new)
ITERATIONS += 'log_processor = dict(by_epoch=False)\n'
