import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_task import EPOCHS, ITERATIONS
from forked import Training, forget_earlier_runs, leave_configs_unformatted
from mmengine.config import Config
from mmengine.dist import all_reduce
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapperDict
from mmengine.registry import DATASETS, MODELS
from sparse_toy import EMA, SPARSE, make_trainer
from torch import nn
from torch.utils.data import Dataset, IterableDataset
from toy_task import ToyData, ToyModel

from pelk_mm import DynamicSparsityHook
from pelk_mm.apis.train import train
from pelk_mm.checkpoints.loading import unwrap
from pelk_mm.engine.runner.random_state import get_random_state
from pelk_mm.engine.runner.runner import build_runner
from pelk_mm.preflight.dry_pass import dry_pass
from pelk_mm.utils.errors import ConfigError


def log_of(runner):
    return Path(runner.log_dir, f'{runner.timestamp}.log').read_text()


def assert_equal_states(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def state_of(runner):
    """Weights, buffers, weight averages and the optimizer's moments at the end of a run."""
    state = dict(unwrap(runner.model).state_dict())
    for hook in runner.hooks:
        if hasattr(hook, 'ema_model'):
            state.update({f'ema.{name}': tensor for name, tensor in hook.ema_model.state_dict().items()})
    for i, moments in enumerate(runner.optim_wrapper.optimizer.state.values()):
        state.update({f'optimizer.{i}.{name}': torch.as_tensor(value) for name, value in moments.items()})
    return state


@pytest.mark.parametrize('text', [EPOCHS, ITERATIONS], ids=['epochs', 'iterations'])
def test_a_run_ends_bit_for_bit_as_without_the_pass(tmp_path, monkeypatch, text):
    """Augmentation, dropout, BatchNorm and weight averages; also when it is resumed."""
    monkeypatch.chdir(tmp_path)
    leave_configs_unformatted(monkeypatch.setattr)
    Path('config.py').write_text(text)
    length = 'train_cfg.max_epochs' if 'max_epochs' in text else 'train_cfg.max_iters'
    ends = []
    for dry_run in (True, False):
        for resume, steps in ((None, 2), ('auto', 4)):
            forget_earlier_runs()
            runner = train(
                'config.py',
                work_dir=f'work_{dry_run}',
                resume=resume,
                cfg_options={length: steps if 'epochs' in length else 3 * steps},
                dry_run=dry_run,
            )
            assert ('Dry pass: 0.' in log_of(runner)) == dry_run
        ends.append(state_of(runner))
    assert_equal_states(*ends)


def test_a_sparse_run_is_the_same_too(toy_config, monkeypatch):
    """The masks, also of a resumed run; and the model counts its calls, of which the pass is none."""
    run, ends = make_trainer(toy_config), []
    for folder in ('with', 'without'):
        run(SPARSE, EMA, work_dir=folder, train_cfg__max_epochs=1)
        runner = run(SPARSE, EMA, work_dir=folder, resume='auto')
        masks = next(hook for hook in runner.hooks if isinstance(hook, DynamicSparsityHook)).state.masks
        ends.append({**state_of(runner), **{f'mask.{name}': mask for name, mask in masks.items()}})
        ends[-1]['calls'] = torch.tensor(runner.model.calls)
        assert ('Dry pass: 0.' in log_of(runner)) == (folder == 'with')
        monkeypatch.setattr('pelk_mm.apis.train.dry_pass', lambda runner: None)
    assert_equal_states(*ends)


@MODELS.register_module(force=True)
class WatchfulModel(ToyModel):
    """Changes everything that it can get hold of; says what the message hub told it."""

    told: dict = {}
    dtype = None

    def forward(self, x, y, mode='tensor'):
        if mode == 'loss':
            type(self).dtype = self.head(torch.zeros(1, self.head.in_features)).dtype
            type(self).told = dict(MessageHub.get_current_instance().runtime_info)
            MessageHub.get_current_instance().update_info('seen', True)
            random.random(), np.random.rand(), torch.rand(1)
            self.head.weight.data.zero_()
            self.head.requires_grad_(False)
            self.memory = x
        return super().forward(x, y, mode)


class Remembering:
    """A transform that keeps what it has seen, as CachedMosaic does."""

    def __init__(self):
        self.seen = []

    def __call__(self, sample):
        self.seen.append(sample)
        return sample


@DATASETS.register_module(force=True)
class RememberingData(ToyData):
    def __init__(self):
        super().__init__()
        self.pipeline = Remembering()

    def __getitem__(self, index):
        return self.pipeline(super().__getitem__(index))


def runner_for(toy_config, **options):
    """A runner as far as ``train`` builds it before the dry pass."""
    cfg = Config.fromfile(toy_config)
    cfg.work_dir = 'work'
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    runner = build_runner(cfg, trust_checkpoint=False)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    return runner


def test_nothing_is_left_behind(toy_config, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', True)
    runner = runner_for(toy_config, model__type='WatchfulModel', train_dataloader__dataset__type='RememberingData')
    dataset = runner.train_dataloader.dataset
    pipeline, model = dataset.pipeline, runner.model
    model.eval()
    model.backbone.train()
    flags = [module.training for module in model.modules()]
    before = copy.deepcopy((get_random_state(), model.state_dict(), dict(runner.message_hub.runtime_info)))
    attributes = set(vars(model))
    dry_pass(runner)
    random_state, weights, info = before
    for name, value in get_random_state().items():
        assert torch.equal(value, random_state[name]) if torch.is_tensor(value) else value == random_state[name], name
    assert_equal_states(model.state_dict(), weights)
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert [module.training for module in model.modules()] == flags
    assert set(vars(model)) == attributes
    assert MessageHub.get_current_instance() is runner.message_hub
    assert runner.message_hub.runtime_info == info
    assert WatchfulModel.told == {'epoch': 0, 'iter': 0, 'max_epochs': 2, 'max_iters': 4}
    assert dataset.pipeline is pipeline
    assert pipeline.seen == []
    assert torch.backends.cudnn.benchmark
    assert runner.optim_wrapper._inner_count == 0


def test_the_precision_is_that_of_the_run(toy_config):
    runner = runner_for(
        toy_config,
        model__type='WatchfulModel',
        optim_wrapper__type='pelk_mm.BFloat16OptimWrapper',
        optim_wrapper__accumulative_counts=4,
    )
    dry_pass(runner)
    assert WatchfulModel.dtype == torch.bfloat16


def test_what_is_put_back_is_so_after_an_error_too(toy_config):
    runner = runner_for(toy_config, model__width=8)
    runner.model.head = nn.Linear(5, 2)
    before = get_random_state()['torch']
    with pytest.raises(ConfigError):
        dry_pass(runner)
    assert torch.equal(get_random_state()['torch'], before)
    assert MessageHub.get_current_instance() is runner.message_hub


@MODELS.register_module(force=True)
class MeetingModel(ToyModel):
    """Waits for the other processes in its loss, as detectors do that share the number of boxes."""

    def forward(self, x, y, mode='tensor'):
        output = super().forward(x, y, mode)
        if mode == 'loss':
            all_reduce(torch.ones(1))
        return output


def register_here():
    """Importing this module, which names this function, has registered the models."""


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_meet_in_the_pass(tmp_path, monkeypatch, toy_config):
    leave_configs_unformatted(monkeypatch.setattr)
    options = {'model.type': 'MeetingModel', 'model.norm': 'SyncBatchNorm'}
    arguments = {'config': toy_config, 'no_validate': True, 'cfg_options': options}
    assert Training('output.txt', arguments, 2, register_here).wait() == 0, Path('output.txt').read_text()[-3000:]
    assert 'Dry pass: ' in Path('output.txt').read_text()
    assert (tmp_path / 'work_dirs/toy/epoch_2.pth').exists()
    wrong = {**options, 'model.width': 6, 'model.type': 'WrongModel'}
    arguments = {**arguments, 'work_dir': 'wrong', 'cfg_options': wrong}
    assert Training('wrong.txt', arguments, 2, register_here).wait() == 2
    assert 'error: dry pass: head (Linear): RuntimeError: mat1 and mat2' in Path('wrong.txt').read_text()


@MODELS.register_module(force=True)
class WrongModel(ToyModel):
    def __init__(self, width=8, **kwargs):
        super().__init__(width, **kwargs)
        self.head = nn.Linear(5, 2)


@MODELS.register_module(force=True)
class OwnStepModel(ToyModel):
    def train_step(self, data, optim_wrapper):
        return super().train_step(data, optim_wrapper)


@MODELS.register_module(force=True)
class UncopiedModel(ToyModel):
    def __deepcopy__(self, memo):
        raise TypeError('it holds a file')


@DATASETS.register_module(force=True)
class UncopiedData(ToyData):
    pipeline = UncopiedModel()


@DATASETS.register_module(force=True)
class StreamedData(IterableDataset):
    metainfo = ToyData.metainfo

    def __len__(self):
        return 8

    def __iter__(self):
        return map(ToyData().__getitem__, range(8))


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'model__type': 'OwnStepModel'}, 'OwnStepModel has a train_step of its own'),
        ({'model__type': 'UncopiedModel'}, 'the model cannot be copied (it holds a file)'),
        (
            {'train_dataloader__dataset__type': 'StreamedData', 'train_dataloader__sampler': None},
            'samples of an iterable data set cannot be read twice',
        ),
        (
            {'train_dataloader__dataset__type': 'UncopiedData'},
            'a data pipeline cannot be copied (it holds a file)',
        ),
        ({'train_dataloader__dataset__size': 0}, 'the data set is empty or has no length'),
    ],
    ids=['train_step', 'model', 'iterable', 'pipeline', 'empty'],
)
def test_what_would_leave_a_trace_is_left_out(toy_config, options, reason):
    runner = runner_for(toy_config, **options)
    dry_pass(runner)
    assert f'Dry pass: left out, since {reason}' in log_of(runner)


def test_several_optimizers_are_left_out(toy_config):
    runner = runner_for(toy_config)
    runner.optim_wrapper = OptimWrapperDict(one=runner.optim_wrapper)
    dry_pass(runner)
    assert 'Dry pass: left out, since the config has several optimizers' in log_of(runner)


class FailingCrop:
    def transform(self, results):
        return results['img']


@DATASETS.register_module(force=True)
class WrongData(Dataset):
    """Samples that do not fit together, labels that do not fit the head, or a transform that fails."""

    metainfo = ToyData.metainfo

    def __init__(self, sizes=(4, 4), labels=(0, 1), fails=False):
        self.sizes, self.labels, self.fails = sizes, labels, fails

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if self.fails:
            FailingCrop().transform({})
        return {'x': torch.zeros(self.sizes[index]), 'y': torch.tensor(self.labels[index])}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'model.type': 'WrongModel'},
            'dry pass: head (Linear): RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x8 and 5x2): backbone '
            'puts out 2x8; set in_channels=8 in head, where it is 5 (--no-dry-run trains without this pass',
        ),
        (
            {'train_dataloader.dataset': {'type': 'WrongData', 'sizes': (4, 5)}},
            'dry pass: train_dataloader.collate_fn: RuntimeError: stack expects each tensor to be equal size, but got '
            '[4] at entry 0 and [5] at entry 1: let the pipeline bring all images to one size (',
        ),
        (
            {'train_dataloader.dataset': {'type': 'WrongData', 'labels': (0, 2)}},
            'dry pass: ToyModel: IndexError: Target 2 is out of bounds.: a label is 2, which num_classes of the head '
            'does not cover (',
        ),
        (
            {'train_dataloader.dataset': {'type': 'WrongData', 'fails': True}},
            "dry pass: sample 0 of train_dataloader, FailingCrop: KeyError: 'img' (",
        ),
        (
            {'train_dataloader.batch_size': 1},
            'dry pass: backbone (Sequential), 1 (BatchNorm1d): ValueError: Expected more than 1 value per channel when '
            'training, got input size torch.Size([1, 8]): BatchNorm needs two values of a channel: set '
            'train_dataloader.batch_size to 2 or more (',
        ),
    ],
    ids=['channels', 'sizes', 'label', 'transform', 'batch'],
)
def test_a_mistake_is_one_line_and_writes_nothing(toy_config, tmp_path, options, message):
    if 'train_dataloader.dataset' in options:
        options = {'train_dataloader.dataset': {**options['train_dataloader.dataset'], '_delete_': True}}
    with pytest.raises(ConfigError) as caught:
        train(toy_config, cfg_options=options)
    assert str(caught.value).startswith(message)
    assert '\n' not in str(caught.value)
    assert not list(tmp_path.glob('work_dirs/*/*.p*'))
