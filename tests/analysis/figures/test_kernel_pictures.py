import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pelk_mm.analysis.figures.charts import png_bytes
from pelk_mm.analysis.figures.kernel_pictures import draw_kernel, kernel_layers, layer_kernel
from pelk_mm.layers import MIXERS, TokenMixer
from pelk_mm.models import PeLK
from pelk_mm.ops import shiftwise_conv2d

ARCH = {'depths': (1, 2, 1, 1), 'channels': (8, 8, 8, 8)}


def build(**options):
    torch.manual_seed(0)
    return PeLK(ARCH, kernel_sizes=(13, 11, 9, 7), width_factor=1.0, **options).eval()


def expanded(w_theta, sizes):
    """Each position of the kernel by its own look-up, another way than SharingGrid.expand."""
    owner = [segment for segment, size in enumerate(sizes) for _ in range(size)]
    return np.array([[[w[a][b] for b in owner] for a in owner] for w in w_theta.detach().numpy()])


@pytest.mark.parametrize('deployed', [False, True])
def test_a_peripheral_layer(deployed):
    net = build()
    if deployed:
        net.switch_to_deploy()
    layer = layer_kernel(net, 'stages.0.0.mixer')
    arrays = layer.arrays()
    assert layer.form == ('merged' if deployed else 'before BatchNorm')
    assert layer.sizes == (2, 2, 1, 1, 1, 1, 1, 2, 2)
    np.testing.assert_array_equal(arrays['w_theta'], net.stages[0][0].mixer.w_theta.detach())
    np.testing.assert_array_equal(arrays['kernel'], expanded(net.stages[0][0].mixer.w_theta, layer.sizes))
    np.testing.assert_array_equal(arrays['pos_embed'], net.pos_embeds[0].detach())
    np.testing.assert_array_equal(arrays['segment_sizes'], layer.sizes)


@pytest.mark.parametrize('mixer', ['peripheral', 'stripe', 'dilated', 'shiftwise'])
def test_a_merged_kernel_is_what_the_net_applies(mixer):
    """The response of the deployed mixer to one lit pixel is its kernel, turned around."""
    net = build(pos_embed=None, mixer=mixer)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.uniform_(0.5, 2)
    net.switch_to_deploy()
    mixer = net.stages[0][0].mixer
    impulse = torch.zeros(1, 8, 25, 25)
    impulse[:, :, 12, 12] = 1
    kernel = layer_kernel(net, 'stages.0.0.mixer').kernel
    count, side = kernel.shape[:2]
    with torch.no_grad():
        response = mixer(impulse)[0, :count] - mixer.bias[:, None, None]
    reach = slice(12 - side // 2, 13 + side // 2)
    torch.testing.assert_close(response[:, reach, reach].flip(1, 2), kernel, rtol=1e-4, atol=1e-6)


def test_kernels_of_a_trained_form():
    """The branches of a shiftwise layer before their norms, an inception layer's three kernels."""
    net = build(mixer='shiftwise')
    mixer = net.stages[0][0].mixer
    shown = layer_kernel(net, 'stages.0.0')
    assert shown.form == 'before BatchNorm'
    impulse = torch.zeros(1, mixer.conv_channels, 41, 41)
    impulse[:, :, 20, 20] = 1
    branches = shiftwise_conv2d(impulse, mixer.weight.sum(0), *mixer.tables(), 13, backend='groups')
    reach = slice(20 - shown.kernel.shape[1] // 2, 21 + shown.kernel.shape[1] // 2)
    response = sum(branches)[0, :, reach, reach].flip(1, 2)
    torch.testing.assert_close(shown.kernel, response.detach(), rtol=1e-4, atol=1e-6)
    net = build(mixer='inception')
    inception, mixer = layer_kernel(net, 'stages.0.0').kernel, net.stages[0][0].mixer
    assert inception.shape == (3, 13, 13)
    torch.testing.assert_close(inception[0, 4:9, 4:9], mixer.square_weight[0, 0].detach())
    torch.testing.assert_close(inception[1, 6], mixer.wide_weight[0, 0, 0].detach())
    torch.testing.assert_close(inception[2, :, 6], mixer.tall_weight[0, 0, :, 0].detach())
    assert inception.count_nonzero() == 25 + 13 + 13


def test_dense_and_stripe_layers():
    dense = layer_kernel(build(mixer='dense'), 'stages.1.1.mixer')
    assert dense.w_theta is None
    assert dense.kernel.shape == dense.pos_embed.shape == (3, 11, 11)

    net = build(mixer='stripe', conv_ratio=1.0, pos_embed=None)
    stripe = layer_kernel(net, 'stages.0.0.mixer')
    mixer = net.stages[0][0].mixer
    tall, wide = mixer.tall_weight.detach()[:, 0], mixer.wide_weight.detach()[:, 0]
    assert stripe.kernel.shape == (8, 13, 13)
    assert stripe.pos_embed is None
    torch.testing.assert_close(stripe.kernel[:, :, 4:9][:, :4], tall[:, :4])
    torch.testing.assert_close(stripe.kernel[:, 4:9][:, :, 9:], wide[:, :, 9:])
    torch.testing.assert_close(stripe.kernel[:, 4:9, 4:9], tall[:, 4:9] + wide[:, :, 4:9])
    assert not stripe.kernel[:, :4, :4].any()


def test_a_square_longer_than_the_bands():
    net = build(mixer='inception', small_kernel=9)
    kernel, mixer = layer_kernel(net, 'stages.3.0').kernel, net.stages[3][0].mixer
    assert kernel.shape == (3, 9, 9)
    torch.testing.assert_close(kernel[0], mixer.square_weight[0, 0].detach())
    torch.testing.assert_close(kernel[1, 4, 1:8], mixer.wide_weight[0, 0, 0].detach())


# What sees 13 pixels in levels, and windows of one size.
OF_OTHER_SIZES = {'wavelet': [23, 23, 23, 11, 11], 'window': [13] * 5}


@pytest.mark.parametrize('mixer', MIXERS)
def test_every_layer_has_a_size_to_list(mixer):
    layers = kernel_layers(build(mixer=mixer, pos_embed=None))
    assert [layer.kernel_size for layer in layers.values()] == OF_OTHER_SIZES.get(mixer, [13, 11, 11, 9, 7])


def test_a_mixer_that_does_not_give_its_kernel():
    with pytest.raises(ValueError, match='layer 0 is a TokenMixer, whose kernel this version cannot read'):
        layer_kernel(nn.Sequential(TokenMixer()), '0')


def test_a_depthwise_convolution_of_any_backbone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, (3, 5), groups=4), nn.Conv2d(4, 4, 1, groups=4))
    assert list(kernel_layers(net)) == ['1']
    layer = layer_kernel(net, '1')
    assert torch.equal(layer.kernel, net[1].weight.detach()[:, 0])
    assert (layer.form, layer.w_theta, layer.pos_embed) == ('plain', None, None)


@pytest.mark.parametrize('name', ['backbone.stages.0.0.mixer', 'stages.0.0', 'stages.0', 'stages.0.0.mixer.w_theta'])
def test_other_names_of_a_layer(name):
    assert layer_kernel(build(), name).name == 'stages.0.0.mixer'


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('stages.0.7.mixer', 'is not in the backbone'),
        ('stages.0.0.norm', 'is a LayerNorm2d without a depthwise kernel'),
        ('downsample_layers.0.0', 'is a Conv2d without a depthwise kernel'),
        ('', 'is a PeLK without a depthwise kernel'),
    ],
)
def test_a_wrong_name_lists_the_layers(name, reason):
    with pytest.raises(ValueError, match=f"layer '{name}' {reason}; choose one of: stages.0.0.mixer, stages.1.0.mixer"):
        layer_kernel(build(), name)


def test_names_of_several_layers_and_of_none():
    with pytest.raises(ValueError, match='holds 2 layers .* choose one of: stages.1.0.mixer, stages.1.1.mixer$'):
        layer_kernel(build(), 'stages.1')
    with pytest.raises(ValueError, match='Sequential has no layer with a depthwise kernel'):
        layer_kernel(nn.Sequential(nn.Conv2d(3, 3, 3)), '0')


def test_the_figure():
    layer = layer_kernel(build(), 'stages.0.0.mixer')
    figure = draw_kernel(layer, channels=(0, 2), cell=200)
    pictures = [axes for axes in figure.axes if axes.images and axes.get_title()]
    titles = [axes.get_title() for axes in pictures]
    assert titles[:4] == [
        'w_theta, 9 x 9\nmean of 3 channels',
        'kernel, 13 x 13\nmean of 3 channels',
        'h, 13 x 13\nmean of 3 channels',
        'w_theta, 9 x 9\nchannel 0',
    ]
    assert len(pictures) == 9
    assert [axes.get_xlabel() for axes in pictures[:2]] == ['segments from the centre', 'pixels from the centre']
    assert all(axes.get_ylabel() == axes.get_xlabel() for axes in pictures)
    np.testing.assert_allclose(pictures[1].images[0].get_array(), np.abs(layer.kernel.numpy()).mean(0), rtol=1e-6)
    np.testing.assert_array_equal(pictures[7].images[0].get_array(), layer.kernel[2])
    assert Image.open(io.BytesIO(png_bytes(figure))).size == (600, 520)
    with pytest.raises(ValueError, match=r'channels must be different numbers from 0 to 2, but got \[3\]'):
        draw_kernel(layer, channels=[3])
