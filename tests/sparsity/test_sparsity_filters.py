"""Sparse training by whole filters: densities, what moves in each path, synchronisation, resume, precision, errors."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from sparse_toy import EMA, LAST, make_trainer, recorded, sparse_hook
from torch import nn
from torch.nn import functional as F

from pelk_mm import DynamicSparsityHook
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.converters.remove_masks import remove_masks
from pelk_mm.sparsity.masked import MaskedWeights
from pelk_mm.sparsity.units import Filters
from pelk_mm.sparsity.weights import maskable_weights, masks_from_zeros
from pelk_mm.utils.errors import CheckpointError, ConfigError

COARSE = {
    'type': 'pelk_mm.DynamicSparsityHook',
    'granularity': 'filter',
    'sparsity': 0.4,
    'prune_rate': 0.5,
    'update_interval': 3,
    'sync_interval': 3,  # at steps 9 and 18
}
FIXED = {'type': 'pelk_mm.DynamicSparsityHook', 'mode': 'fixed', 'granularity': 'filter'}
WEIGHTS = {'backbone.0.weight': (2, 1, 8, 3, 3), 'backbone.1.weight': (2, 4, 3, 3, 3)}


class Paths(nn.Module):
    """A depthwise convolution of a 2x2 map by the sum of its paths."""

    filter_parameters = ('weight',)

    def __init__(self, paths, channels, groups):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(paths, channels, groups, 3, 3) * 0.1)

    def forward(self, x):
        weight = self.weight.sum(0)
        x = x.reshape(len(x), len(weight), 2, -1)
        return F.conv2d(x, weight.flatten(0, 1)[:, None], padding=1, groups=len(weight)).tanh().flatten(1)


@MODELS.register_module(force=True)
class PathsToy(BaseModel):
    """Two mixers of two paths, and a linear layer that filter masks leave alone."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(Paths(2, 1, 8), Paths(2, 4, 3))
        self.head = nn.Linear(96, 2)

    def forward(self, x, y, mode='tensor'):
        logits = self.head(self.backbone(x))
        return {'loss': F.cross_entropy(logits, y)} if mode == 'loss' else list(logits)


@pytest.fixture
def toy(toy_config):
    run = make_trainer(toy_config)
    return lambda *hooks, **options: run(*hooks, **{'model': {'type': 'PathsToy', '_delete_': True}, **options})


def test_densities_moves_and_synchronisation(toy):
    runner = toy({**COARSE, 'seed': 5})
    record = recorded(runner)
    first = record.masks[0]
    assert {name: tuple(mask.shape) for name, mask in first.items()} == {
        name: (*shape[:-2], 1, 1) for name, shape in WEIGHTS.items()
    }
    # One threshold over the scores of all filters, means over 3 x 3; each path gets its share of the layer's count.
    scores = {name: score.mean((-2, -1)) for name, score in record.scores.items()}
    assert scores.keys() == WEIGHTS.keys()
    ranked = np.sort(np.concatenate([score.ravel() for score in scores.values()]))[::-1]
    threshold = ranked[round(0.6 * (16 + 24)) - 1]
    kept = {name: round((score >= threshold).sum() / 2) for name, score in scores.items()}
    assert 0 < kept['backbone.0.weight'] < 8
    assert 0 < kept['backbone.1.weight'] < 12
    for name, mask in first.items():
        assert torch.equal(mask[0], mask[1])
        assert int(mask[0].sum()) == kept[name]
        # All paths are masked before the first step already.
        assert torch.equal((record.start[name] != 0).any(-1).any(-1), mask[..., 0, 0])

    for step in range(1, 23):
        for name, mask in record.masks[step - 1].items():
            weight, last = record.weights[step - 1][name], record.masks[max(step - 2, 0)][name]
            assert not weight[~mask.expand_as(weight)].any()
            assert [int(path.sum()) for path in mask] == [kept[name]] * 2
            if step % 3:
                assert torch.equal(mask, last)
            else:
                assert not weight[(mask & ~last).expand_as(weight)].any()  # grown ones start at zero
    equal = [all(torch.equal(mask[0], mask[1]) for mask in masks.values()) for masks in record.masks]
    assert equal == [step < 3 or step in (9, 10, 11, 18, 19, 20) for step in range(1, 23)]
    assert torch.equal(runner.model.state_dict()['head.weight'] != 0, torch.ones(2, 96, dtype=torch.bool))
    assert list(sparse_hook(runner).weights) == list(WEIGHTS)


def test_without_synchronisation_the_paths_stay_apart(toy):
    record = recorded(toy({**COARSE, 'sync_interval': None}))
    assert all(any(not torch.equal(m[0], m[1]) for m in masks.values()) for masks in record.masks[2:])


def restated(norms, mask, rate):
    """Flat indices of the filters that pruning leaves, in numpy."""
    kept = np.flatnonzero(mask)
    order = kept[np.argsort(norms.ravel()[kept], kind='stable')]
    return set(order[math.ceil(rate * len(kept)) :])


def test_moves_against_numpy():
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, 5, 3, 3, generator=draw, dtype=torch.float64)
    units = Filters()
    start = torch.rand(3, 4, 5, 1, 1, generator=draw) < torch.tensor([0.3, 0.6, 0.8])[:, None, None, None, None]
    weight *= start
    norms, masks = np.abs(weight.numpy()).sum((-2, -1)), start.numpy()

    pruned, moved = units.move(weight, start, 0.3, 7, 100, 'w')
    for path in range(3):
        assert set(np.flatnonzero(pruned[path])) == restated(norms[path], masks[path], 0.3)
    assert (pruned & ~moved).sum() == 0
    assert torch.equal(moved.sum((1, 2)), start.sum((1, 2)))
    again = units.move(weight, start, 0.3, 7, 100, 'w')[1]
    assert torch.equal(again, moved)
    assert not torch.equal(units.move(weight, start, 0.3, 7, 200, 'w')[1], moved)

    pruned, moved = units.synchronise(weight, start, 0.3, 7, 100, 'w')
    left = restated(norms.sum(0), masks[0], 0.3)
    for path in range(3):
        assert set(np.flatnonzero(pruned[path])) == left & set(np.flatnonzero(masks[path]))
        assert torch.equal(moved[path], moved[0])
    assert left < set(np.flatnonzero(moved[0]))
    assert int(moved[0].sum()) == int(start[0].sum())
    # A rank by the first path alone would keep others.
    assert left != restated(norms[0], masks[0], 0.3)


def test_paths_grow_by_draws_of_their_own():
    weight = torch.ones(2, 50, 20, 1, 1)
    _, moved = Filters().move(weight, Filters().draw(weight.shape, 1000, 0, 'w'), 0.5, 0, 1, 'w')
    assert not torch.equal(moved[0], moved[1])


def test_draws_round_the_share_of_a_path():
    for keep, share in ((0, 1), (1, 1), (5, 2), (7, 4), (9, 4)):
        mask = Filters().draw((2, 3, 4, 3, 3), keep, 0, 'w')
        assert [int(path.sum()) for path in mask] == [share, share]


def states(path):
    saved = read_checkpoint(path)
    parts = {key: saved[key] for key in ('state_dict', 'ema_state_dict', 'optimizer', 'sparsity')}
    return json.dumps(parts, default=lambda x: x.double().tolist() if isinstance(x, torch.Tensor) else str(x))


@pytest.mark.parametrize(('wrapper', 'counts'), [('OptimWrapper', 1), ('pelk_mm.BFloat16OptimWrapper', 2)])
def test_a_resumed_run_is_bit_equal(toy, wrapper, counts):
    """Whole, and stopped after iteration 11; the paths are equal before and apart after, or the other way round."""
    coarse = {**COARSE, 'sync_interval': 4 if counts == 1 else 3}
    options = {
        'optim_wrapper__accumulative_counts': counts,
        'train_cfg__max_epochs': 3,
        'optim_wrapper__type': wrapper,
        'default_hooks__checkpoint__max_keep_ckpts': -1,
    }
    toy(coarse, EMA, work_dir='whole', **options)
    saved = read_checkpoint('whole/epoch_1.pth')['sparsity']
    assert saved['settings']['granularity'] == 'filter'
    assert saved['settings']['sync_interval'] == coarse['sync_interval']
    assert any(not torch.equal(mask[0], mask[1]) for mask in saved['masks'].values())
    resumed = toy(coarse, EMA, work_dir='cut', resume='whole/epoch_1.pth', **options)
    assert recorded(resumed).steps[-1] == math.ceil(33 / counts)
    assert states('whole/epoch_3.pth') == states('cut/epoch_3.pth')
    for weights, masks in zip(recorded(resumed).averages, recorded(resumed).masks, strict=True):
        assert all(not weights[name][~mask.expand_as(weights[name])].any() for name, mask in masks.items())


def test_fixed_mode_reads_filters_of_zeros(toy):
    toy(COARSE)
    masks = read_checkpoint(LAST)['sparsity']['masks']
    runner = toy(FIXED, load_from=LAST, work_dir='tuned')
    assert all(torch.equal(masks[name], mask) for name, mask in sparse_hook(runner).state.masks.items())
    assert all(not (weight := runner.model.get_parameter(n))[~m.expand_as(weight)].any() for n, m in masks.items())

    # A filter with one weight that is not zero is kept, and so is a layer without a single filter of zeros.
    weight = torch.ones(2, 3, 2, 3, 3)
    weight[0, 1] = 0
    weight[0, 1, 0, 2, 2] = 1e-9
    weight[1, 2, :, 0] = 0
    (found,) = masks_from_zeros({'w': weight, 'dense': torch.ones(2, 1, 3, 3)}, 0.99, Filters()).values()
    expected = torch.ones(2, 3, 2, 1, 1, dtype=torch.bool)
    expected[0, 1, 1] = False
    assert torch.equal(found, expected)


def test_masks_are_removed(toy):
    toy(COARSE, EMA)
    before = read_checkpoint(LAST)
    masks = before['sparsity']['masks']
    for state in (before['state_dict'], before['ema_state_dict']):  # as if something had written to them
        state.update({key: value + 1 for key, value in state.items() if value.is_floating_point()})
    torch.save(before, 'touched.pth')
    removal = remove_masks('touched.pth', 'plain.pth')
    assert removal.layers == 2
    assert removal.total == (16 + 24) * 9
    assert removal.zeros == 9 * sum(int((~mask).sum()) for mask in masks.values())
    plain = read_checkpoint('plain.pth')
    assert 'sparsity' not in plain
    for key, prefix in (('state_dict', ''), ('ema_state_dict', 'module.')):
        for name, mask in masks.items():
            assert torch.equal(plain[key][prefix + name], before[key][prefix + name] * mask)


def test_density_counts_weights():
    weights = {'a': torch.ones(2, 1, 8, 3, 3), 'b': torch.ones(2, 4, 3, 5, 5)}
    masks = {'a': torch.zeros(2, 1, 8, 1, 1, dtype=torch.bool)}
    masks['a'][:, :, :2] = True
    masked = MaskedWeights(weights, [], masks, Filters())
    assert masked.density() == {'a': 0.25, 'b': 1.0}
    assert masked.total_density() == pytest.approx((0.25 * 144 + 600) / 744)


def test_bad_arguments():
    def refused(message, **options):
        with pytest.raises((TypeError, ValueError), match=message):
            DynamicSparsityHook(**options)

    refused("granularity must be one of element, filter, but got 'channel'", granularity='channel')
    refused("sync_interval=131 is for the paths of granularity='filter', but granularity is 'elem", sync_interval=131)
    refused('sync_interval must be at least 1, but got 0', granularity='filter', sync_interval=0)
    refused('sync_interval must be an int, but got 1.5', granularity='filter', sync_interval=1.5)
    refused("mode='fixed' .* has no use for sync_interval", granularity='filter', sync_interval=5, mode='fixed')


def test_refused_models_and_checkpoints(toy):
    with pytest.raises(ConfigError, match="SparseToy has no token mixer with filters .* use granularity='element'"):
        toy(COARSE, model={'type': 'SparseToy', '_delete_': True})
    flat = nn.Sequential(Paths(2, 1, 2))
    flat[0].filter_parameters = ('bias',)
    flat[0].bias = nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(ConfigError, match=r'parameters of shape \(paths, ..., N, N\), but 0.bias is \(2, 3\)'):
        maskable_weights(flat, None, Filters())

    toy(COARSE)
    elements = {'type': 'pelk_mm.DynamicSparsityHook', 'include': ['backbone']}
    more = {'model': {'type': 'MaskableToy', '_delete_': True}, 'train_cfg__max_epochs': 3}
    with pytest.raises(CheckpointError, match='do not fit .* the include= and the granularity= it was trained with'):
        toy(elements, resume=LAST, **more)
    saved = read_checkpoint(LAST)
    saved['sparsity']['masks'] = {}  # all layers dense: nothing in the masks tells how they were made
    torch.save(saved, 'dense.pth')
    with pytest.raises(CheckpointError, match='trained with granularity=filter of the sparsity hook, .* says element'):
        toy(elements, resume='dense.pth', **more)


@MODELS.register_module(force=True)
class MaskableToy(PathsToy):
    """The same weights, single ones of which may be masked."""

    def __init__(self):
        super().__init__()
        for mixer in self.backbone:
            mixer.maskable_parameters = ('weight',)


def test_shiftwise_mixers():
    """The mixer offers its filters; a channel whose filters all paths drop passes unchanged, deployed too."""
    from pelk_mm.layers.mixers.shiftwise import ShiftwiseConv

    mixer = nn.Sequential(ShiftwiseConv(8, 7)).eval()
    weights = maskable_weights(mixer, None, Filters())
    assert list(weights) == ['0.weight']
    mask = Filters().draw(weights['0.weight'].shape, 20, 0, '0.weight')
    assert mask.shape == (2, mixer[0].conv_channels, 3, 1, 1)
    mask[:, 0] = False
    MaskedWeights(weights, [], {'0.weight': mask}, Filters()).apply()
    x = torch.randn(1, 8, 6, 5)
    for _ in range(2):
        with torch.no_grad():
            mixed = mixer(x)[0, 0]
        torch.testing.assert_close(mixed, x[0, mixer[0].rep_channels[0]])
        mixer[0].switch_to_deploy()
    with pytest.raises(ConfigError, match='has no token mixer with filters'):
        maskable_weights(mixer, None, Filters())
