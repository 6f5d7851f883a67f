import sys

import pytest
import torch
from torch import nn

from pelk_mm.benchmarks import harness
from pelk_mm.benchmarks.nets import setting, train_step
from pelk_mm.benchmarks.nets.evaluation import benchmark_model
from pelk_mm.benchmarks.nets.rivals import RIVALS, build_net, resolve_arch
from pelk_mm.benchmarks.nets.train_step import TrainStep, benchmark_train
from pelk_mm.benchmarks.rotation import Rotation
from pelk_mm.models import PeLK

SPECK = {'arch': 'speck', 'size': 32, 'batch': 2, 'repeats': 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(PeLK, 'arch_settings', {'speck': {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}})
    monkeypatch.setattr(harness, 'SAMPLE_SECONDS', 0.0)
    monkeypatch.setattr(setting, 'cache_bytes', lambda device: 0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_evaluation_of_every_rival(dtype):
    result = benchmark_model(**SPECK, dtype=dtype, channels_last=dtype == torch.bfloat16)
    assert {t.name for t in result.timings} | set(result.skipped) == set(RIVALS)
    assert {t.name for t in result.timings if t.error is not None} == {'pelk', 'pelk-101'}
    assert all(t.kept_bytes is None for t in result.timings)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_a_step_of_every_rival(dtype):
    result = benchmark_train(**SPECK, dtype=dtype, channels=(6, 8, 10, 12))
    assert {t.name for t in result.timings} | set(result.skipped) == set(RIVALS)
    assert all(t.kept_bytes > 0 for t in result.timings)
    assert {'pelk', 'pelk-101', '7x7', 'stripe', 'stripe nhwc'} <= {t.name for t in result.timings}


@pytest.mark.parametrize('run', [benchmark_model, benchmark_train])
def test_a_missing_package_is_named(monkeypatch, run):
    monkeypatch.setitem(sys.modules, 'mmpretrain.models', None)
    result = run(**SPECK, nets=['convnext', '7x7'])
    assert [t.name for t in result.timings] == ['7x7']
    assert 'mmpretrain cannot be imported' in result.skipped['convnext']
    assert "'7x7' stands in for it" in result.skipped['convnext']


@pytest.mark.parametrize('run', [benchmark_model, benchmark_train])
def test_a_net_without_room_does_not_stop_the_others(monkeypatch, run):
    def no_room(self, x, pos_embed=None):
        raise torch.OutOfMemoryError('no room')

    monkeypatch.setattr('pelk_mm.benchmarks.nets.rivals.StockConv.forward', no_room)
    result = run(**SPECK, nets=['stripe', 'pelk'])
    assert [t.name for t in result.timings] == ['pelk']
    assert result.skipped == {'stripe': 'OutOfMemoryError: no room'}


def test_a_wrong_merge_is_not_timed(monkeypatch):
    from pelk_mm.layers.mixers import peripheral

    def unfolded(norm):
        return torch.ones(norm.num_features).double(), torch.zeros(norm.num_features).double()

    monkeypatch.setattr(peripheral, 'batch_norm_scale_and_shift', unfolded)
    with pytest.raises(harness.GateError, match='deployed pelk is wrong by'):
        benchmark_model(**SPECK)


def test_a_diverged_loss_is_not_timed(monkeypatch):
    monkeypatch.setattr(train_step.F, 'cross_entropy', lambda *args: torch.tensor(float('nan')))
    with pytest.raises(harness.GateError, match='the loss is nan: not timed'):
        benchmark_train(**SPECK)


class Square(nn.Module):
    """Keeps its squares once, though two products save them or what they are made of."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return (x * x * self.weight[:, None, None],)


def step_of(net, cache_bytes=0):
    images = Rotation(torch.randn(4, 3, 5, 5), cache_bytes, requires_grad=True)
    return TrainStep(net, images, torch.zeros(4, dtype=torch.long), torch.float32)


@pytest.mark.parametrize('cache_bytes', [0, 10**6])
def test_kept_bytes_count_each_storage_once_and_neither_weights_nor_images(cache_bytes):
    plane = 4 * 3 * 5 * 5 * 4
    # squares; features of the classifier; log-probabilities, labels and a scalar of the loss
    least = plane + 4 * 3 * 4 + 4 * 1000 * 4 + 4 * 8
    assert least <= step_of(Square(), cache_bytes).kept_bytes() <= least + 200


def test_nets_that_are_named_may_have_any_mixer():
    result = benchmark_model(**SPECK, nets=['pelk', 'mixer=shiftwise', 'mixer=dilated'])
    assert [t.name for t in result.timings] == ['pelk', 'mixer=shiftwise', 'mixer=dilated']
    assert all(t.error is not None for t in result.timings)  # deployed, and still the same


def test_a_step_trains_and_leaves_no_gradient():
    step = step_of(Square())
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    loss = step.loss().item()
    for _ in range(3):
        step()
    assert step.loss().item() < loss
    after = list(step.model.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(parameter.grad is None for parameter in after)
    weights = sum(parameter.numel() for parameter in after)
    assert step.held_bytes() == 4 * (3 * weights + len(after))  # weights, two moments, and a count each


def test_widths_and_depths_agree():
    for arch in ('speck', resolve_arch('speck', (6, 8, 10, 12))):
        pelk = build_net('pelk', arch)
        for name in RIVALS[1:]:
            net = build_net(name, arch)
            assert [len(stage) for stage in net.stages] == list(pelk.depths)
            assert [stage[0].gamma.numel() for stage in net.stages] == list(pelk.channels)


@pytest.mark.parametrize('run', [benchmark_model, benchmark_train])
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'arch': 'gigantic'}, "arch must be one of speck, but got 'gigantic'"),
        ({'size': 31}, 'size must be at least 32 and batch at least 1, but got 31 and 2'),
        ({'batch': 0}, 'but got 32 and 0'),
        ({'dtype': torch.float64}, 'dtype must be one of torch.float32'),
        ({'nets': ['resnet']}, 'nets must be some of pelk, .*, but got resnet'),
        ({'channels': (8, 8, 8)}, r'channels must be four positive numbers, but got \(8, 8, 8\)'),
        ({'device': 'abacus'}, 'abacus'),
    ],
)
def test_bad_arguments(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(**SPECK | arguments)
