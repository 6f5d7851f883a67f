"""What a user needs who changes only the backbone and its channel numbers in a config of another one."""

import warnings

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from pelk_mm.layers.together import keep_together
from pelk_mm.models import (
    InceptionNeXt,
    OverLoCK,
    PeLK,
    RepLK51,
    ShiftWiseNet,
    ShiftWiseNetV1,
    SLaK,
    UniConvNet,
    UniRepLKNet,
    WBMMNet,
    WTConvNeXt,
)

NETWORKS = [
    PeLK,
    SLaK,
    UniRepLKNet,
    InceptionNeXt,
    RepLK51,
    ShiftWiseNet,
    ShiftWiseNetV1,
    WTConvNeXt,
    WBMMNet,
    UniConvNet,
    OverLoCK,
]
SMALL = {'arch': {'depths': (1, 1, 1, 1), 'channels': (16, 16, 16, 16)}}
DENSE = {**SMALL, 'gap_before_final_norm': False, 'out_indices': (0, 1, 2, 3)}


@pytest.mark.parametrize('network', NETWORKS)
def test_strides_decide_the_sizes_and_weights_fit_any(network):
    net, stock = network(**DENSE, strides=(4, 2, 1, 1)).eval(), network(**DENSE).eval()
    x = torch.randn(1, 3, 64, 96)
    assert [tuple(y.shape[2:]) for y in net(x)] == [(16, 24), (8, 12), (8, 12), (8, 12)]
    assert [tuple(y.shape[2:]) for y in stock(x)] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    net.load_state_dict(stock.state_dict())
    for layer, coarse in zip(net.downsample_layers[2:], stock.downsample_layers[2:], strict=True):
        z = torch.randn(1, stock.channels[1], 8, 12)
        torch.testing.assert_close(layer(z)[..., ::2, ::2], coarse(z))


@pytest.mark.parametrize('strides', [(4, 2, 2), (2, 2, 2, 2), (4, 2, 2, 3), (4, 2, 2, 0), '4222', 4, (4, 2, 1.5, 1)])
def test_strides_that_cannot_be(strides):
    with pytest.raises((TypeError, ValueError), match='strides must be'):
        PeLK(**SMALL, strides=strides)


@pytest.mark.parametrize('network', NETWORKS)
def test_leftovers_of_another_backbone(network):
    for name in ('style', 'num_stages', 'pretrained', 'dilations'):
        with pytest.raises(TypeError, match=f"{network.__name__} takes no argument '{name}': .*_delete_=True"):
            network(**SMALL, **{name: 1})
    assert network(**SMALL, frozen_stages=-1).frozen_stages == 0


@pytest.mark.parametrize('network', NETWORKS)
def test_a_norm_left_behind_by_another_backbone_is_named(network):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        network(**SMALL)
        network(**SMALL, norm_cfg={'type': 'BN', 'requires_grad': True})
    told = [str(warning.message) for warning in caught if 'leave it out to keep them' in str(warning.message)]
    assert len(told) == (network is not InceptionNeXt)
    assert all(f"'requires_grad': True}} replaces the LayerNorms of {network.__name__}" in text for text in told)


def test_the_widths_of_a_resnet():
    with torch.device('meta'):
        net = PeLK('resnet_widths', out_indices=(0, 1, 2, 3), gap_before_final_norm=False)
        assert [y.shape[1] for y in net(torch.empty(1, 3, 64, 64))] == [256, 512, 1024, 2048]
    assert net.channels == (256, 512, 1024, 2048)


@pytest.mark.parametrize('network', NETWORKS)
def test_an_output_that_is_not_read_has_gradients_of_zero(network):
    net = network(**DENSE)
    net(torch.randn(2, 3, 64, 64))[2].sum().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
    if network not in (InceptionNeXt, OverLoCK):  # their outputs have no norm
        assert not net.norm3.weight.grad.any()
        assert not net.norm0.bias.grad.any()
        assert net.norm2.bias.grad.all()


def test_reading_some_outputs_gives_the_gradients_of_reading_them_alone():
    torch.manual_seed(0)
    net, x = PeLK(**DENSE), torch.randn(2, 3, 64, 64)
    first = PeLK(**{**DENSE, 'out_indices': (1,)})
    first.load_state_dict(net.state_dict(), strict=False)
    net(x)[1].square().sum().backward()
    first(x)[0].square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    for name, parameter in first.named_parameters():
        if parameter.grad is not None:
            assert torch.equal(gradients[name], parameter.grad), name


@pytest.mark.parametrize('network', NETWORKS)
def test_stages_behind_the_last_output_are_left_out(network):
    """They would have no gradient, and DistributedDataParallel stops at that."""
    torch.manual_seed(0)
    net, whole = network(**{**DENSE, 'out_indices': (0, 1)}), network(**DENSE)
    net.load_state_dict(whole.state_dict(), strict=False)
    x = torch.randn(2, 3, 64, 64)
    for got, expected in zip(net.eval()(x), whole.eval()(x)[:2], strict=True):
        assert torch.equal(got, expected)
    sum(y.square().sum() for y in net.train()(x)).backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == (not parameter.requires_grad), name
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    kinds = ('downsample_layers.', 'stages.', 'norm', 'pos_embeds.')
    first = tuple(f'{kind}{stage}' for kind in kinds for stage in (0, 1))
    assert frozen == {name for name, _ in net.named_parameters() if not name.startswith(first)}


def test_outputs_without_gradients_are_left_alone():
    outputs = (torch.zeros(1), torch.zeros(2))
    assert keep_together(outputs) is outputs
    leaves = tuple(torch.zeros(1, requires_grad=True) for _ in range(2))
    with torch.no_grad():
        assert keep_together(leaves) is leaves
    assert keep_together(leaves[:1])[0] is leaves[0]


def test_distributed_training_goes_on(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        net = DistributedDataParallel(PeLK(**DENSE))
        for _ in range(3):
            net(torch.randn(2, 3, 64, 64))[1].sum().backward()
    finally:
        torch.distributed.destroy_process_group()
