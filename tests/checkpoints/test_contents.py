import copy
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import MultiStepLR
from torch import nn

from pelk_mm.checkpoints.contents import check_checkpoint, check_optimizer_shapes
from pelk_mm.checkpoints.loading import load_weights
from pelk_mm.checkpoints.schema import check, mapping, number, optional, record, sequence, tensor, text, truth
from pelk_mm.utils.errors import CheckpointError


def trained() -> dict:
    """A checkpoint with every part that has a rule."""
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    scheduler = MultiStepLR(optimizer, milestones=[1, 2])
    return {
        'state_dict': net.state_dict(),
        'ema_state_dict': {'steps': torch.tensor(1), **net.state_dict()},
        'meta': {'epoch': 1, 'iter': np.int64(2), 'cfg': 'a = 1'},
        'message_hub': {
            'log_scalars': OrderedDict(loss=HistoryBuffer([1.0, 2.0], [1, 1])),
            'runtime_info': {'epoch': 1, 'max_epochs': 3, 'best_ckpt': 'best.pth', 'keep_ckpt_ids': [1], 'any': None},
            'resumed_keys': {'loss': True},
        },
        'optimizer': optimizer.state_dict(),
        'param_schedulers': [scheduler.state_dict()],
    }


def uneven() -> HistoryBuffer:
    history = HistoryBuffer([1.0], [1])
    vars(history)['_log_history'] = np.zeros(3)
    return history


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        (('state_dict', '0.weight'), 1.0, 'state_dict.0.weight must be a dense tensor, but is 1.0'),
        (('state_dict', '0.weight'), torch.zeros(2).to_sparse(), 'state_dict.0.weight must be a dense tensor'),
        (('state_dict', 3), torch.zeros(1), 'a key of state_dict must be a printable name, but is 3'),
        (('state_dict', 'a\n\x1b[2J'), torch.zeros(1), r"must be a printable name, but is 'a\\n\\x1b"),
        (('state_dict',), [1], 'state_dict must be a dictionary, but is a list'),
        (('ema_state_dict', 'steps'), 'a', "ema_state_dict.steps must be a dense tensor, but is 'a'"),
        (('meta',), None, 'meta must be a dictionary, but is None'),
        (('meta', 'epoch'), -1, 'meta.epoch must be an integer at least 0, but is -1'),
        (('meta', 'iter'), 1.5, 'meta.iter must be an integer at least 0, but is 1.5'),
        (('meta', 'iter'), True, 'meta.iter must be an integer at least 0, but is True'),
        (('message_hub', 'log_scalars', 'loss'), [1.0], 'log_scalars.loss must be a HistoryBuffer, but is a list'),
        (('message_hub', 'log_scalars', 'loss'), uneven(), 'message_hub.log_scalars.loss must be .*of one length'),
        (('message_hub', 'runtime_info', 'best_ckpt'), 3, 'best_ckpt must be a string, but is 3'),
        (('message_hub', 'runtime_info', 'best_ckpt_acc'), 3, 'best_ckpt_acc must be a string, but is 3'),
        (('message_hub', 'runtime_info', 'keep_ckpt_ids'), [1, 'a'], r"keep_ckpt_ids\[1\] must be an integer"),
        (('message_hub', 'runtime_info', 'epoch'), math.inf, 'epoch must be an integer'),
        (('message_hub', 'resumed_keys', 'loss'), 'yes', "resumed_keys.loss must be True or False, but is 'yes'"),
        (('message_hub',), {}, 'message_hub must be a dictionary with log_scalars, .*, but is one without log_scalars'),
        (('optimizer',), {'state': {}}, 'optimizer.*must be a dictionary'),
        (('optimizer', 'state', 0, 'exp_avg'), 0.5, 'optimizer.state.0.exp_avg must be a dense tensor, but is 0.5'),
        (('optimizer', 'state', 0, 'step'), -1, 'optimizer.state.0.step must be a finite number at least 0'),
        (('optimizer', 'param_groups', 0, 'lr'), -0.1, r'param_groups\[0\].lr must be a finite number at least 0'),
        (('optimizer', 'param_groups', 0, 'lr'), math.nan, 'lr must be a finite number at least 0, but is nan'),
        (('optimizer', 'param_groups', 0, 'betas'), (0.9, math.nan), r'betas\[1\] must be a finite number'),
        (('optimizer', 'param_groups', 0, 'params'), ['a'], r'params\[0\] must be an integer'),
        (('param_schedulers', 0, 'last_step'), 'a', r"param_schedulers\[0\].last_step must be an integer"),
        (('param_schedulers',), 3, 'param_schedulers must be a list, but is 3'),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_named(place, value, message):
    checkpoint = trained()
    check_checkpoint(checkpoint, 'a.pth')
    *parents, last = place
    target = checkpoint
    for name in parents:
        target = target[name]
    target[last] = value
    with pytest.raises(CheckpointError, match=f'^checkpoint a.pth is damaged or was changed: .*{message}'):
        check_checkpoint(checkpoint, 'a.pth')


def test_metadata_of_a_state_dict():
    checkpoint = trained()
    checkpoint['state_dict']._metadata['1']['version'] = 'a'
    with pytest.raises(
        CheckpointError, match=r"state_dict._metadata.1.version must be an integer at least 0, but is 'a'"
    ):
        check_checkpoint(checkpoint, 'a.pth')


def test_extra_state_of_a_module_may_be_anything():
    check_checkpoint({'state_dict': {'head._extra_state': {'a': 1}}}, 'a.pth')


def test_several_optimizers_and_groups_of_schedulers_by_name():
    checkpoint = trained()
    checkpoint['optimizer'] = {'a': checkpoint['optimizer'], 'b': copy.deepcopy(checkpoint['optimizer'])}
    checkpoint['param_schedulers'] = {'a': checkpoint['param_schedulers']}
    check_checkpoint(checkpoint, 'a.pth')
    checkpoint['optimizer']['b']['param_groups'][0]['lr'] = -1
    with pytest.raises(CheckpointError, match=r'optimizer.b.param_groups\[0\].lr must be'):
        check_checkpoint(checkpoint, 'a.pth')


@pytest.mark.parametrize(
    ('rule', 'good', 'bad'),
    [
        (number(), [0, -1.5, np.float32(2), torch.tensor(2.0)], [math.nan, math.inf, 'a', None, True, torch.ones(2)]),
        (number(0, 1), [0, 1], [-1, 2]),
        (number(whole=True), [0, np.int8(3), torch.tensor(3)], [1.0, True, '1']),
        (optional(text), [None, 'a'], [1]),
        (truth, [True, np.bool_(False)], [1, None]),
        (sequence(truth, 2), [(True, False)], [[True], [1, 1], 'ab', None]),
        (mapping(text), [{}, {'a': 'b'}], [{1: 'a'}, {'a': 1}, []]),
        (record({'a': text}, {'b*': truth}, rest=number()), [{'a': ''}, {'a': '', 'bc': True, 'd': 1}],
         [{}, {'a': 1}, {'a': '', 'b': 1}, {'a': '', 'd': 'x'}]),
        (tensor(torch.bool, (2,)), [torch.tensor([True, False])],
         [torch.zeros(2), torch.tensor([True]), 1]),
    ],
)  # fmt: skip
def test_rules(rule, good, bad):
    for value in good:
        check(value, rule, 'it', 'a.pth')
    for value in bad:
        with pytest.raises(CheckpointError, match='checkpoint a.pth is damaged or was changed: .* must be .*, but is '):
            check(value, rule, 'it', 'a.pth')


def test_a_message_has_one_line_whatever_the_value():
    with pytest.raises(CheckpointError) as caught:
        check('a\n' * 1000, truth, 'it', 'a.pth')
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize('kind', [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_optimizer_tensors_of_another_shape(kind):
    net = nn.Linear(2, 3)
    optimizer = kind(net.parameters(), lr=0.1, **({'momentum': 0.9} if kind is torch.optim.SGD else {}))
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    check_optimizer_shapes([optimizer], names, 'a.pth')
    state = optimizer.state_dict()
    entry = next(name for name, value in state['state'][0].items() if getattr(value, 'ndim', 0))
    state['state'][0][entry] = torch.zeros(3)
    optimizer.load_state_dict(state)  # PyTorch says nothing
    with pytest.raises(
        CheckpointError, match=rf'{entry} of the optimizer has shape \(3,\) for weight of shape \(3, 2\)'
    ):
        check_optimizer_shapes([optimizer], names, 'a.pth')


def test_weights_that_hold_nan():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    state['0.weight'][1, 1] = math.nan
    load_weights(net, {'state_dict': state}, 'a.pth', demand_all=True)
    state['1.bias'][0] = math.nan
    with pytest.raises(
        CheckpointError,
        match=r'2 of the 4 floating-point tensors of checkpoint a.pth hold NaN \(0.weight, 1.bias\): .*diverged',
    ):
        load_weights(net, {'state_dict': state}, 'a.pth', demand_all=True)
    load_weights(net, {'state_dict': state}, 'a.pth', demand_all=False)
    fine = {name: torch.full_like(value, math.inf) for name, value in state.items()}
    load_weights(net, {'state_dict': fine}, 'a.pth', demand_all=True)
