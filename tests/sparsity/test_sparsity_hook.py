"""Dynamic sparse training through the runner: densities, masks at every step, precision, averages, logs."""

import json
import math
from pathlib import Path

import needs
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPERS
from sparse_toy import EMA, LAST, NAMES, SPARSE, SparseToy, copy_of, make_trainer, recorded, sparse_hook
from torch import nn

from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.sparsity.snip import snip_scores
from pelk_mm.utils.errors import ConfigError


@pytest.fixture
def toy(toy_config):
    return make_trainer(toy_config)


def test_snip_leaves_the_run_as_it_was(toy):
    """At sparsity 0 all layers stay dense, so only a trace of the SNIP pass could change the run."""
    plain = toy().model.state_dict()
    sparse = toy({**SPARSE, 'sparsity': 0}, work_dir='other').model.state_dict()
    assert plain.keys() == sparse.keys()
    assert all(torch.equal(plain[key], sparse[key]) for key in plain)


def test_densities_and_masks(toy):
    runner = toy({**SPARSE, 'seed': 5})
    record, hook = recorded(runner), sparse_hook(runner)

    masks = record.masks[0]
    assert sorted(masks) == NAMES
    ranked = np.sort(np.concatenate([score.ravel() for score in record.scores.values()]))[::-1]
    keep = round(0.5 * (80 + 400 + 40))
    for name, score in record.scores.items():
        assert int(masks[name].sum()) == (score >= ranked[keep - 1]).sum()
    assert sum(int(mask.sum()) for mask in masks.values()) == keep
    assert hook.masked.total_density() == pytest.approx(0.5)
    assert hook.masked.density() == {name: int(masks[name].sum()) / masks[name].numel() for name in NAMES}

    # After every step: zero where the mask says so, trained elsewhere.
    for masks, weights in zip(record.masks, record.weights, strict=True):
        assert all(not weights[name][~mask].any() for name, mask in masks.items())
    assert (record.start['backbone.3.weight'] != 0).equal(record.masks[0]['backbone.3.weight'])  # masked at once
    # Every third step as many weights move as the cosine says; between them, and after the last step, none does.
    for step in range(2, 23):
        for name in NAMES:
            old, new = record.masks[step - 2][name], record.masks[step - 1][name]
            kept = int(old.sum())
            assert int(new.sum()) == kept
            if step % 3:
                assert torch.equal(old, new)
                continue
            rate = 0.005 + (0.3 - 0.005) * (1 + math.cos(math.pi * step / 22)) / 2
            moved = old & ~new
            # What is dropped may be drawn again, so this many leave at most; what left was no larger than what stayed.
            assert 0 <= int(moved.sum()) <= math.ceil(rate * kept)
            assert not record.weights[step - 1][name][new & ~old].any()  # grown ones start at 0
    assert len({tuple(masks['backbone.3.weight'].flatten().tolist()) for masks in record.masks}) == 8


def test_scores_against_a_plain_backward(toy):
    torch.manual_seed(3)
    model = SparseToy()
    model.backbone[2].p = 0.0
    model.train()
    batch = {'x': torch.randn(6, 4), 'y': torch.tensor([0, 1, 0, 1, 1, 0])}
    before, states = copy_of(model.state_dict()), torch.get_rng_state()
    weights = {name: model.get_parameter(name) for name in NAMES}
    wrapper = OPTIM_WRAPPERS.build({'type': 'OptimWrapper', 'optimizer': torch.optim.SGD(model.parameters(), 0.1)})
    scores = snip_scores(model, batch, wrapper, weights)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(states, torch.get_rng_state())

    model(**batch, mode='loss')['loss'].backward()
    for name, weight in weights.items():
        expected = abs(weight.detach().numpy() * weight.grad.numpy())
        assert torch.allclose(scores[name], torch.from_numpy(expected), rtol=1e-6, atol=0)

    model.get_parameter('head.weight').data[0, 0] = math.nan
    with pytest.raises(ConfigError, match=r'gradients of the first batch are not finite \(loss nan\)'):
        snip_scores(model, batch, wrapper, weights)
    with pytest.raises(ConfigError, match='needs an mmengine BaseModel to compute a loss, but got Linear'):
        snip_scores(nn.Linear(2, 2), batch, wrapper, weights)


def test_layers_near_dense_or_without_a_ranking_stay_dense(toy):
    @HOOKS.register_module(name='ZeroHead', force=True)
    class ZeroHead(Hook):
        def before_train(self, runner):
            runner.model.head.weight.data.zero_()

    runner = toy({**SPARSE, 'sparsity': 0.2, 'dense_above': 0.8}, {'type': 'ZeroHead'})
    # A zero head passes no gradient on: nothing but the head has one, and its weights are zero.
    assert sparse_hook(runner).masked.density() == dict.fromkeys(NAMES, 1.0)
    assert runner.model.head.weight.any()
    log = next(Path('work_dirs/toy').glob('*/*.log')).read_text()
    assert 'stay dense: all their weights or all their gradients are zero' in log

    density = sparse_hook(toy({**SPARSE, 'sparsity': 0.2, 'dense_above': 0.7}, work_dir='other')).masked.density()
    assert 1.0 in density.values()
    assert all(value == 1.0 or value < 0.7 for value in density.values())


def test_accumulated_iterations_are_no_steps(toy):
    runner = toy(SPARSE, optim_wrapper__accumulative_counts=4)
    record = recorded(runner)
    assert record.steps == [(i + 1) // 4 for i in range(21)] + [6]  # the last two iterations make a step of their own
    assert sparse_hook(runner).total_steps == 6
    changed = [i + 1 for i in range(1, 22) if any_differs(record.masks[i - 1], record.masks[i])]
    assert changed == [12]  # the third step; the sixth is the last
    assert all(not w[n][~m].any() for ms, w in zip(record.masks, record.weights, strict=True) for n, m in ms.items())


def any_differs(old, new):
    return any(not torch.equal(old[name], new[name]) for name in old)


@OPTIM_WRAPPERS.register_module(force=True)
class CpuAmpOptimWrapper(AmpOptimWrapper):
    """mmengine's own, with the loss scaler that PyTorch has for CPUs."""

    def __init__(self, scale, **kwargs):
        import mmengine.optim.optimizer.amp_optimizer_wrapper as module

        known, module.is_cuda_available = module.is_cuda_available, lambda: True
        super().__init__(dtype='bfloat16', loss_scale=1.0, **kwargs)
        module.is_cuda_available = known
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale)


@needs.float16_on_cpu
@pytest.mark.parametrize('fused', [False, True])
def test_skipped_steps_of_a_loss_scaler_do_not_count(toy, fused):
    optimizer = {'type': 'AdamW', 'lr': 0.01, 'fused': fused}
    wrapper = {'type': 'CpuAmpOptimWrapper', 'scale': 1024.0, 'optimizer': optimizer, '_delete_': True}
    # Call 1 of the model is the SNIP pass, 3 and 8 are iterations 2 and 7.
    model = {'type': 'SparseToy', 'blow_up': [3, 8], '_delete_': True}
    runner = toy(SPARSE, model=model, optim_wrapper=wrapper)
    record = recorded(runner)
    assert record.steps == [1, 1, 2, 3, 4, 5, 5, *range(6, 21)]
    changed = [record.steps[i] for i in range(1, 22) if any_differs(record.masks[i - 1], record.masks[i])]
    assert changed == [3, 6, 9, 12, 15, 18]
    assert all(not w[n][~m].any() for ms, w in zip(record.masks, record.weights, strict=True) for n, m in ms.items())
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())


@needs.float16_on_cpu
def test_snip_under_loss_scaling(toy):
    """Scores do not depend on the scale, not even on one that makes gradients overflow at first."""
    torch.manual_seed(3)
    model = SparseToy().train()
    batch = {'x': torch.randn(6, 4), 'y': torch.tensor([0, 1, 0, 1, 1, 0])}
    weights = {name: model.get_parameter(name) for name in NAMES}
    scores = []
    for scale in (1.0, 2.0**10, 2.0**127):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        wrapper = OPTIM_WRAPPERS.build({'type': 'CpuAmpOptimWrapper', 'scale': scale, 'optimizer': optimizer})
        scores.append(snip_scores(model, batch, wrapper, weights))
    for other in scores[1:]:
        assert all(torch.equal(other[name], scores[0][name]) for name in NAMES)


def test_bfloat16_wrapper(toy):
    runner = toy(SPARSE, optim_wrapper__type='pelk_mm.BFloat16OptimWrapper')
    assert recorded(runner).steps[-1] == 22
    assert sparse_hook(runner).masked.total_density() == pytest.approx(0.5)


def test_averages_follow_the_masks(toy):
    """The average restated from the recorded weights and masks."""
    runner = toy(SPARSE, EMA)
    record = recorded(runner)
    adopted = 0
    for name in NAMES:
        average = record.weights[0][name].clone()  # the first update copies
        for i in range(1, 22):
            step, weight, before = i + 1, record.weights[i][name], record.weights[i - 1][name]
            if step % 3 == 0:  # pruned ones and grown ones are zero now, at once
                average[weight == 0] = 0
            if step % 3 == 1:  # the first step of those grown by the step before
                grown = (before == 0) & record.masks[i - 1][name]
                average[grown] = weight[grown]
                adopted += int((weight[grown] != 0).sum())
            average += 0.25 * (weight - average)
            torch.testing.assert_close(record.averages[i][name], average, rtol=0, atol=1e-6)
            assert not record.averages[i][name][~record.masks[i][name]].any()
    assert adopted > 50
    saved = read_checkpoint(LAST)
    masks = saved['sparsity']['masks']
    for state, prefix in ((saved['state_dict'], ''), (saved['ema_state_dict'], 'module.')):
        assert all(not state[prefix + name][~mask].any() for name, mask in masks.items())
    assert any(not torch.equal(saved['state_dict'][n], saved['ema_state_dict']['module.' + n]) for n in NAMES)


def test_logs(toy):
    runner = toy({**SPARSE, 'log_interval': 10})
    folder = Path(runner.log_dir)
    log = next(folder.glob('*.log')).read_text()
    assert 'Sparsity masks drawn: density 0.5000 over 3 layers, 3 of them masked' in log
    assert '  backbone.3.weight (20, 20)\n' in log
    lines = [json.loads(line) for line in (folder / 'vis_data' / 'scalars.json').read_text().splitlines()]
    lines = [line for line in lines if 'sparsity/density' in line]
    assert [line['step'] for line in lines] == [0, 10, 20]
    density = sparse_hook(runner).masked.density()
    for line in lines:
        assert line['sparsity/density'] == pytest.approx(0.5)
        assert {name: line[f'sparsity/layer/{name}'] for name in NAMES} == pytest.approx(density)
    rates = [0.005 + 0.295 * (1 + math.cos(math.pi * step / 22)) / 2 for step in (0, 10, 20)]
    assert [line['sparsity/prune_rate'] for line in lines] == pytest.approx(rates)
    assert runner.message_hub.get_scalar('train/density').current() == pytest.approx(0.5)


def test_include_and_frozen_weights(toy):
    runner = toy({**SPARSE, 'include': [r'^backbone\.3', 'head']})
    assert list(sparse_hook(runner).weights) == NAMES[1:]

    @MODELS.register_module(name='FrozenToy', force=True)
    class FrozenToy(SparseToy):
        def __init__(self):
            super().__init__()
            self.backbone[0].requires_grad_(False)

    runner = toy(SPARSE, model={'type': 'FrozenToy', '_delete_': True}, work_dir='other')
    assert sparse_hook(runner).masked.density()['backbone.0.weight'] == 1.0
    assert sum(int(mask.sum()) for mask in sparse_hook(runner).state.masks.values()) == 220
