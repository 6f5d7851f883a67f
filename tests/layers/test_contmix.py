"""ContMix and the blocks around it, beside what tests/converters/test_overlock_layout.py compares with its authors'."""

import needs
import pytest
import torch
from random_norms import randomise
from torch import nn

from pelk_mm.layers.contmix import ContMix, _resized_size
from pelk_mm.layers.overlock_blocks import BRANCHES, ContMixBlock, OverLoCKBlock, dilated_reparam

CFG = {'norm_cfg': {'type': 'LN2d', 'eps': 1e-6}, 'branch_norm_cfg': {'type': 'BN'}, 'act_cfg': {'type': 'GELU'}}


def make(**kwargs):
    torch.manual_seed(0)
    return randomise(ContMix(16, 8, **{'heads': 2, 'kernel_size': 7, 'small_kernel': 3, **kwargs})).eval()


@pytest.mark.parametrize('size', [(7, 7), (9, 13), (4, 6), (30, 5), (1, 1)])
def test_kernels_sum_to_one_on_every_map(size):
    mixer = make()
    values, guide = torch.ones(2, 16, *size), torch.randn(2, 24, *size)
    out = mixer(values, guide)
    assert out.shape == values.shape
    torch.testing.assert_close(out, values)


@pytest.mark.parametrize(
    ('size', 'kernel_size', 'expected'),
    [
        ((7, 7), 7, None),
        ((14, 6), 7, (16, 7)),
        ((6, 14), 7, (7, 16)),
        ((5, 5), 7, (7, 7)),
        ((11, 11), 15, (15, 15)),  # 15 / 11 * 11 is 14.99... in floating point
    ],
)
def test_maps_below_the_kernel_are_resized(size, kernel_size, expected):
    assert _resized_size(*size, kernel_size) == expected


def test_values_are_linear_and_the_guide_decides():
    mixer = make()
    values, guide = torch.randn(1, 16, 9, 9), torch.randn(1, 24, 9, 9)
    torch.testing.assert_close(mixer(3 * values, guide), 3 * mixer(values, guide))
    assert not torch.allclose(mixer(values, guide), mixer(values, guide.flip(3)), atol=1e-3)


@pytest.mark.parametrize('dtype', [torch.bfloat16, pytest.param(torch.float16, marks=needs.float16_on_cpu)])
def test_logits_beyond_half_precision(dtype):
    """Products of 2^10 channels at 30 overflow float16, and bfloat16 has no digits left of their differences."""
    mixer = make()
    with torch.no_grad():
        mixer.query.weight.mul_(3e3)
        mixer.key.weight.mul_(3e3)
    values, guide = torch.randn(1, 16, 9, 9), torch.randn(1, 24, 9, 9)
    expected = mixer(values, guide)
    with torch.autocast('cpu', dtype):
        low = mixer(values.to(dtype), guide.to(dtype))
        small, large = mixer._kernels(guide.to(dtype))
    assert low.dtype == dtype
    assert small.dtype == large.dtype == torch.float32
    assert low.isfinite().all()
    torch.testing.assert_close(low.float().std(), expected.std(), rtol=0.5, atol=0)


def test_every_parameter_gets_a_gradient():
    for module, inputs in (
        (make().train(), (torch.randn(2, 16, 9, 9), torch.randn(2, 24, 9, 9))),
        (
            ContMixBlock(16, 8, 2, 7, 3, mixes_overview=True, **CFG),
            (torch.randn(2, 16, 9, 9), torch.randn(2, 8, 9, 9), torch.randn(2, 8, 9, 9)),
        ),
        (OverLoCKBlock(16, 7, scaled_residual=True, **CFG), (torch.randn(2, 16, 9, 9),)),
    ):
        for name, parameter in module.named_parameters():
            if name.endswith(('grn.gamma', 'grn.beta', '_grn.gamma', '_grn.beta')):
                nn.init.normal_(parameter)
        out = module(*inputs)
        (out * torch.randn_like(out)).sum().backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize('size', [9, 5])
def test_recomputed_blocks_train_alike(size):
    inputs = [torch.randn(2, channels, size, size) for channels in (16, 8, 8)]
    blocks = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        blocks.append(ContMixBlock(16, 8, 2, 7, 3, mixes_overview=True, with_cp=with_cp, **CFG).train())
        blocks[-1](*inputs).square().sum().backward()
    for (name, parameter), other in zip(blocks[0].named_parameters(), blocks[1].parameters(), strict=True):
        torch.testing.assert_close(other.grad, parameter.grad, msg=name)
    torch.testing.assert_close(dict(blocks[0].named_buffers()), dict(blocks[1].named_buffers()))


@pytest.mark.parametrize('kernel_size', BRANCHES)
def test_merged_branches(kernel_size):
    mixer = randomise(dilated_reparam(4, kernel_size, {'type': 'BN'})).eval()
    x = torch.randn(1, 4, 20, 23)
    with torch.no_grad():
        expected = mixer(x)
        mixer.switch_to_deploy()
        torch.testing.assert_close(mixer(x), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'heads': 3}, ValueError, r'channels must be a multiple of 2 \* heads=6, but got 16'),
        ({'heads': 0}, ValueError, 'heads must be .* but got 0'),
        ({'kernel_size': 6}, ValueError, 'kernel_size must be odd and positive, but got 6'),
        ({'small_kernel': 9}, ValueError, 'small_kernel must be at most kernel_size=7, but got 9'),
        ({'norm_cfg': {'type': 'LN2d'}}, ValueError, "must be 'BN' or 'SyncBN'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        make(**arguments)


def test_a_kernel_without_branches():
    with pytest.raises(ValueError, match='kernel_size must be one of 5, 7, 9, 11, 13, 15, 17, 19, but got 3'):
        dilated_reparam(4, 3, {'type': 'BN'})
