"""The tensor logic of sparse training, against plain restatements in numpy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from pelk_mm.benchmarks.nets.sparsity import benchmark_sparsity
from pelk_mm.models import PeLK
from pelk_mm.sparsity.rules import cosine_rate, grow, local_generator, prune, random_mask, snip_counts
from pelk_mm.sparsity.weights import maskable_weights, masks_from_zeros
from pelk_mm.utils.errors import ConfigError

TINY = {'arch': {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}, 'width_factor': 1.0, 'kernel_sizes': (13, 11, 9, 7)}


def random_scores(seed=0):
    draw = np.random.default_rng(seed)
    return {name: draw.gamma(0.3, size=shape) for name, shape in {'a': (7, 3, 2), 'b': (90,), 'c': (5, 11)}.items()}


@pytest.mark.parametrize('sparsity', [0.0, 0.1, 0.4, 0.9, 0.995])
def test_snip_counts_against_numpy(sparsity):
    scores = random_scores()
    everything = np.sort(np.concatenate([score.ravel() for score in scores.values()]))[::-1]
    threshold = everything[round((1 - sparsity) * len(everything)) - 1]
    expected = {name: int((score >= threshold).sum()) for name, score in scores.items()}
    assert snip_counts({name: torch.from_numpy(score) for name, score in scores.items()}, sparsity) == expected


def test_snip_shares_out_ties():
    scores = {'a': torch.zeros(30), 'b': torch.cat([torch.ones(4), torch.zeros(10)])}
    assert snip_counts(scores, 0.5) == {'a': 13, 'b': 9}  # 22 of 44: the 4 ones, then 18 of 40 zeros, 30 to 10
    assert snip_counts({'a': torch.ones(3), 'b': torch.ones(4)}, 0.99) == {'a': 0, 'b': 0}


def test_cosine():
    assert cosine_rate(0, 100, 0.5, 0.005) == 0.5
    assert cosine_rate(50, 100, 0.5, 0.005) == pytest.approx(0.2525)
    assert cosine_rate(25, 100, 0.3, 0.1) == pytest.approx(0.1 + 0.2 * (1 + math.sqrt(0.5)) / 2)
    assert cosine_rate(100, 100, 0.5, 0.005) == cosine_rate(130, 100, 0.5, 0.005) == pytest.approx(0.005)


def test_generators_depend_on_their_arguments_alone():
    def draw(*args):
        return torch.rand(3, generator=local_generator(*args)).tolist()

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert draw(1, 2, 'a') == draw(1, 2, 'a')
    assert len({tuple(draw(*args)) for args in [(1, 2, 'a'), (2, 2, 'a'), (1, 3, 'a'), (1, 2, 'b'), (12, 2, 'a')]}) == 5
    assert torch.equal(before, torch.get_rng_state())


def test_random_masks_are_exact_and_uniform():
    masks = torch.stack([random_mask((4, 5), 8, local_generator(0, step, 'w')) for step in range(500)])
    assert masks.dtype == torch.bool
    assert (masks.sum((1, 2)) == 8).all()
    # Each position is kept with probability 0.4; five standard deviations of the mean of 500.
    assert ((masks.float().mean(0) - 0.4).abs() < 5 * math.sqrt(0.24 / 500)).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_prune_against_numpy(dtype):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 7, generator=generator).to(dtype)
    mask = random_mask((6, 7), 25, generator)
    pruned = prune(weight.abs(), mask, 10)
    magnitude, kept = weight.double().abs().numpy().ravel(), mask.numpy().ravel()
    order = [i for i in np.argsort(magnitude, kind='stable') if kept[i]]
    expected = kept.copy()
    expected[order[:10]] = False
    assert np.array_equal(pruned.numpy().ravel(), expected)
    assert int(mask.sum()) == 25


def test_prune_ties_and_extremes():
    mask = torch.tensor([True, True, False, True, True, True])
    weight = torch.tensor([0.0, 2.0, 0.0, 0.0, math.nan, 0.0])
    assert prune(weight.abs(), mask, 2).tolist() == [False, True, False, False, True, True]  # the first of the zeros
    assert prune(weight.abs(), mask, 4).tolist() == [False, False, False, False, True, False]  # NaN goes last
    assert not prune(weight.abs(), mask, 5).any()
    assert torch.equal(prune(weight.abs(), mask, 0), mask)


def test_grow_draws_uniformly_from_all_zeros():
    mask = torch.tensor([True, False, False, False, True, False, False])
    grown = torch.stack([grow(mask, 2, local_generator(0, step, 'w')) for step in range(600)])
    assert (grown.sum(1) == 4).all()
    assert grown[:, mask].all()
    assert ((grown[:, ~mask].float().mean(0) - 0.4).abs() < 5 * math.sqrt(0.24 / 600)).all()
    assert grow(mask, 5, local_generator(0, 0, 'w')).all()
    assert torch.equal(grow(mask, 0, local_generator(0, 0, 'w')), mask)


@pytest.mark.parametrize('mixer', ['peripheral', 'dense', 'stripe'])
def test_which_weights_can_be_masked(mixer):
    """All kernels and matrices by name, and by shape: everything of two dimensions or more except h."""
    options = {'conv_ratio': 1.0, 'pos_embed': None} if mixer == 'stripe' else {}
    model = nn.Sequential()
    model.backbone = PeLK(**TINY, mixer=mixer, **options)
    model.head = nn.Sequential(nn.Linear(8, 3), nn.LayerNorm(3))
    found = maskable_weights(model)
    expected = {name for name, p in model.named_parameters() if p.ndim > 1 and 'pos_embeds' not in name}
    assert set(found) == expected
    kernel = {'peripheral': 'w_theta', 'dense': 'w_theta', 'stripe': 'tall_weight'}[mixer]
    assert {
        'backbone.downsample_layers.0.0.weight',
        'backbone.downsample_layers.3.1.weight',
        f'backbone.stages.3.0.mixer.{kernel}',
        'backbone.stages.0.0.mixer.small_weight',
        'backbone.stages.1.0.pointwise_conv2.weight',
        'head.0.weight',
    } <= expected
    assert all(found[name] is dict(model.named_parameters())[name] for name in found)


def test_include_and_own_declarations():
    class Scaled(nn.Linear):
        maskable_parameters = ()

    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, Scaled(2, 2), nn.Embedding(3, 2), nn.BatchNorm1d(2), shared, nn.Conv3d(1, 1, 1))
    assert list(maskable_weights(model)) == ['0.weight', '5.weight']
    assert list(maskable_weights(model, ['^5', 'x?5'])) == ['5.weight']
    with pytest.raises(ConfigError, match=r"include='head' of the sparsity hook matches none of the 2 .*\(0.weight, 5"):
        maskable_weights(model, ['0', 'head'])
    with pytest.raises(ConfigError, match='LayerNorm has no convolution'):
        maskable_weights(nn.LayerNorm(3))


def test_masks_from_zeros():
    weights = {name: torch.ones(200) for name in ('dense', 'pruned', 'all_zero', 'chance')}
    weights['pruned'][:80] = 0
    weights['all_zero'][:] = 0
    weights['chance'][7] = -0.0
    masks = masks_from_zeros(weights, 0.99)
    assert list(masks) == ['pruned']
    assert masks['pruned'].tolist() == [False] * 80 + [True] * 120


def test_benchmark_times_a_real_iteration():
    timings = benchmark_sparsity(arch='atto', size=32, batch=2, repeats=2)
    assert [timing.name for timing in timings] == ['iteration', 'masking']
    assert all(0 < t.minimum <= t.median <= t.maximum and t.repeats == 2 for t in timings)
    with pytest.raises(ValueError, match=r'sparsity must be in \[0, 1\), but got 1'):
        benchmark_sparsity(sparsity=1)
