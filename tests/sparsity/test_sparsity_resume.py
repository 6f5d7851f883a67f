"""Sparse training that goes on from a checkpoint: resumed, fine-tuned with fixed zeros, or refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from sparse_toy import EMA, FIXED, LAST, NAMES, SPARSE, SparseToy, make_trainer, recorded, sparse_hook

from pelk_mm import DynamicSparsityHook
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.utils.errors import CheckpointError, ConfigError


@pytest.fixture
def toy(toy_config):
    return make_trainer(toy_config)


def states(path):
    saved = read_checkpoint(path)
    parts = {key: saved[key] for key in ('state_dict', 'ema_state_dict', 'optimizer', 'sparsity')}
    return json.dumps(parts, default=lambda x: x.double().tolist() if isinstance(x, torch.Tensor) else str(x))


@pytest.mark.parametrize('counts', [1, 2])
def test_a_resumed_run_is_bit_equal(toy, counts):
    """Resumed from step 11 (or 6, right after a move), a run ends as the one that was never stopped."""
    options = {'optim_wrapper__accumulative_counts': counts, 'train_cfg__max_epochs': 3}
    toy(SPARSE, EMA, work_dir='whole', **options)
    toy(SPARSE, EMA, work_dir='cut', **options)
    for left in ('epoch_2.pth', 'epoch_3.pth', 'last_checkpoint'):
        Path('cut', left).unlink()
    saved = read_checkpoint('cut/epoch_1.pth')['sparsity']
    assert saved['step'] == math.ceil(11 / counts) - (counts == 2)
    resumed = toy(SPARSE, EMA, work_dir='cut', resume='auto', **options)
    assert recorded(resumed).steps[-1] == math.ceil(33 / counts)
    assert states('whole/epoch_3.pth') == states('cut/epoch_3.pth')


def test_fixed_mode_keeps_the_zeros(toy):
    toy(SPARSE, EMA)
    masks = read_checkpoint(LAST)['sparsity']['masks']
    runner = toy(FIXED, load_from=LAST, work_dir='tuned')
    for found in recorded(runner).masks:
        assert sorted(found) == NAMES
        assert all(torch.equal(found[name], masks[name]) for name in NAMES)
    assert all(not runner.model.state_dict()[name][~mask].any() for name, mask in masks.items())
    assert any((runner.model.state_dict()[n] != read_checkpoint(LAST)['state_dict'][n]).any() for n in NAMES)

    # Without masks in the file its exact zeros tell; a head of another size and random weights are no mask.
    saved = read_checkpoint(LAST)
    del saved['sparsity'], saved['state_dict']['head.weight'], saved['state_dict']['head.bias']
    torch.save(saved, 'plain.pth')
    model = {'type': 'SparseToy', 'classes': 3, '_delete_': True}
    runner = toy(FIXED, load_from='plain.pth', work_dir='tuned', model=model, overwrite=True)
    assert sorted(sparse_hook(runner).state.masks) == NAMES[:2]
    before = saved['state_dict']['backbone.3.weight'] == 0
    assert not runner.model.state_dict()['backbone.3.weight'][before].any()
    assert (runner.model.state_dict()['head.weight'] != 0).all()


def test_fixed_mode_reads_what_init_cfg_loaded_and_resumes(toy):
    toy(SPARSE)
    init = {'type': 'Pretrained', 'checkpoint': LAST}

    @MODELS.register_module(name='InitToy', force=True)
    class InitToy(SparseToy):
        def __init__(self):
            super().__init__()
            self.init_cfg = init

    model = {'type': 'InitToy', '_delete_': True}
    runner = toy(FIXED, model=model, work_dir='tuned')
    masks = sparse_hook(runner).state.masks
    assert sorted(masks) == NAMES
    resumed = toy(FIXED, model=model, work_dir='tuned', resume='auto', train_cfg__max_epochs=3)
    assert all(torch.equal(masks[name], sparse_hook(resumed).state.masks[name]) for name in NAMES)
    assert sparse_hook(resumed).state.step == 33


def test_fixed_mode_without_zeros_warns_once(toy):
    runner = toy(FIXED)
    log = next(Path('work_dirs/toy').glob('*/*.log')).read_text()
    assert log.count("mode='fixed', but no weight of the model has been pruned: there is nothing to keep at zero") == 1
    assert sparse_hook(runner).state.masks == {}
    assert 'sparsity' not in read_checkpoint(LAST)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'sparsity': 1.0}, r'sparsity must be in \[0, 1\), but got 1.0'),
        ({'sparsity': -0.1}, 'sparsity must be at least 0, but got -0.1'),
        ({'sparsity': '0.4'}, "sparsity must be a finite number, but got '0.4'"),
        ({'prune_rate': 1.5}, 'prune_rate must be in 0..1, but got 1.5'),
        ({'prune_rate': -0.5}, 'prune_rate must be in 0..1, but got -0.5'),
        ({'final_prune_rate': 2}, 'final_prune_rate must be in 0..1, but got 2'),
        ({'update_interval': 0}, 'update_interval must be at least 1, but got 0'),
        ({'update_interval': 2.5}, 'update_interval must be an int, but got 2.5'),
        ({'log_interval': 0}, 'log_interval must be at least 1, but got 0'),
        ({'mode': 'static'}, "mode must be one of dynamic, fixed, but got 'static'"),
        ({'include': 'head'}, "include must be a sequence, but got 'head'"),
        ({'include': []}, 'include must name at least one regular expression'),
        ({'include': ['[']}, r"include must hold regular expressions, but got '\['"),
        ({'dense_above': 0}, r'dense_above must be in \(0, 1\], but got 0'),
        ({'seed': -1}, 'seed must be at least 0, but got -1'),
        ({'mode': 'fixed', 'sparsity': 0.3, 'seed': 0}, "mode='fixed' keeps .* has no use for sparsity, seed"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        DynamicSparsityHook(**options)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class TwoOptimizers:
    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.parts = optim_wrapper_cfg

    def __call__(self, model):
        return OptimWrapperDict(
            **{name: build_optim_wrapper(getattr(model, name), cfg) for name, cfg in self.parts.items()}
        )


def test_refused_at_the_start(toy):
    with pytest.raises(ConfigError, match="include='neck' of the sparsity hook matches none of the 3"):
        toy({**SPARSE, 'include': ['neck']})
    with pytest.raises(ConfigError, match='names DynamicSparsityHook more than once'):
        toy(SPARSE, SPARSE)
    with pytest.raises(ConfigError, match='sparsity must be in'):
        toy({**SPARSE, 'sparsity': 1})
    optimizer = {'type': 'AdamW', 'lr': 0.01}
    parts = {name: {'type': 'OptimWrapper', 'optimizer': optimizer} for name in ('backbone', 'head')}
    with pytest.raises(ConfigError, match='needs one optimizer, but the config has several'):
        toy(SPARSE, optim_wrapper={'constructor': 'TwoOptimizers', '_delete_': True, **parts}, param_scheduler=None)
    assert [path.name for path in Path('work_dirs/toy').iterdir() if path.is_file()] == ['.lock']


def test_refused_on_resume(toy):
    toy()
    with pytest.raises(CheckpointError, match='holds no sparsity masks, so dynamic .* load_from=PATH'):
        toy(SPARSE, resume='auto', train_cfg__max_epochs=3)
    toy(SPARSE, work_dir='sparse')
    kept, config = Path('sparse/epoch_2.pth').read_bytes(), Path('sparse/toy.py').read_text()
    more = {'work_dir': 'sparse', 'train_cfg__max_epochs': 3}
    with pytest.raises(CheckpointError, match=r'do not fit .* \(additional: backbone.0.weight, backbone.3.weight\)'):
        toy({**SPARSE, 'include': ['head']}, resume='auto', **more)
    with pytest.raises(CheckpointError, match='trained with sparsity=0.5 of the sparsity hook, the config says 0.3'):
        toy({**SPARSE, 'sparsity': 0.3}, resume='auto', **more)
    saved = read_checkpoint('sparse/epoch_2.pth')
    saved['sparsity']['masks']['head.weight'] = torch.ones(2, 3, dtype=torch.bool)
    torch.save(saved, 'misfit.pth')
    with pytest.raises(CheckpointError, match='no mask of the weight: head.weight'):
        toy(SPARSE, resume='misfit.pth', **more)
    saved['sparsity'] = {'masks': []}
    torch.save(saved, 'damaged.pth')
    with pytest.raises(CheckpointError, match='sparsity must be a dictionary with masks, shapes, step'):
        toy(SPARSE, resume='damaged.pth', **more)
    assert Path('sparse/toy.py').read_text() == config
    assert Path('sparse/epoch_2.pth').read_bytes() == kept
    assert not Path('sparse/epoch_3.pth').exists()

    # What may change says so.
    runner = toy({**SPARSE, 'prune_rate': 0.1, 'seed': 7}, resume='auto', **more)
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert 'Sparsity: prune_rate was 0.3, is 0.1' in log
    assert 'Sparsity: total_steps was 22, is 33' in log
    assert 'Sparsity: seed was 0, is 7' in log
