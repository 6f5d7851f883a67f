import copy

import needs
import pytest
import torch
from torch.nn import functional as F

from pelk_mm.layers import DropPath, LargeKernelBlock, LayerNorm2d, PeripheralConv2d
from pelk_mm.layers.norm import build_activation, build_norm

CFG = {'norm_cfg': {'type': 'LN2d', 'eps': 1e-6}, 'act_cfg': {'type': 'GELU'}}


def make(**kwargs):
    return LargeKernelBlock(PeripheralConv2d(16, 13), 16, **{**CFG, 'layer_scale_init_value': 0.5, **kwargs})


def test_is_the_convnext_block():
    block = make().eval()
    x = torch.randn(2, 16, 6, 5)
    y = F.layer_norm(block.mixer(x).permute(0, 2, 3, 1), (16,), block.norm.weight, block.norm.bias, 1e-6)
    y = block.pointwise_conv2(F.gelu(block.pointwise_conv1(y))) * 0.5
    torch.testing.assert_close(block(x), x + y.permute(0, 3, 1, 2))


def test_batch_norm_in_place_of_layer_norm():
    assert make(norm_cfg={'type': 'BN'})(torch.randn(2, 16, 6, 5)).shape == (2, 16, 6, 5)


def test_no_layer_scale():
    assert make(layer_scale_init_value=0).gamma is None


def test_checkpointing_keeps_outputs_gradients_and_statistics():
    torch.manual_seed(0)
    plain = make(drop_path_rate=0.5).train()
    recomputed = copy.deepcopy(plain)
    recomputed.with_cp = True
    x = torch.randn(4, 16, 9, 9)
    results = []
    runs = {True: 0, False: 0}
    for block in (plain, recomputed):
        block.mixer.register_forward_pre_hook(lambda *_, cp=block.with_cp: runs.update({cp: runs[cp] + 1}))
    for block in (plain, recomputed):
        for _ in range(2):
            torch.manual_seed(1)  # the same samples drop
            image = x.clone().requires_grad_()
            out = block(image)
            out.square().sum().backward()
        results.append((out, image.grad, {n: p.grad for n, p in block.named_parameters()}, dict(block.named_buffers())))
    assert runs == {False: 2, True: 4}
    torch.testing.assert_close(results[1], results[0])
    assert results[0][3]['mixer.norm.num_batches_tracked'] == 2
    assert recomputed.mixer.norm.momentum == plain.mixer.norm.momentum


def test_drop_path():
    drop = DropPath(0.25).train()
    torch.manual_seed(0)
    out = drop(torch.ones(4000, 1, 1, 1))
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(out), out)
    with pytest.raises(ValueError, match=r'drop_prob must be in \[0, 1\), but got 1.0'):
        DropPath(1.0)


def test_layer_norm_2d():
    norm = LayerNorm2d(6)
    x = torch.randn(2, 6, 3, 4)
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.forward_channels_last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), expected)


def test_tables_name_what_they_hold():
    with pytest.raises(ValueError, match="type of norm_cfg must be one of 'LN2d', 'BN', 'SyncBN', but got 'GN'"):
        build_norm({'type': 'GN'}, 4)
    with pytest.raises(ValueError, match="type of act_cfg must be one of 'GELU', 'ReLU', 'SiLU', but got None"):
        build_activation({})
    assert not build_norm({'type': 'BN', 'requires_grad': False}, 4).weight.requires_grad


def kept_for_backward(block, x):
    """Bytes of the activations that a block's forward pass keeps: unique storages, parameters and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in (*block.parameters(), *block.buffers())}
    storages = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage  # alive until counted: addresses are given again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = block(x)
    assert out.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.slow
def test_training_memory_is_that_of_a_convnext_block():
    convnext = pytest.importorskip('mmpretrain.models.backbones.convnext', exc_type=ImportError)
    x = torch.randn(2, 124, 56, 56).contiguous(memory_format=torch.channels_last).requires_grad_()
    ours = LargeKernelBlock(PeripheralConv2d(124, 51), 124, **CFG)
    theirs = convnext.ConvNeXtBlock(124, layer_scale_init_value=1e-6)
    assert kept_for_backward(ours.train(), x) < 0.99 * kept_for_backward(theirs.train(), x)


@pytest.mark.parametrize('side', [3, 12], ids=['scales the output', 'scales the weights'])
def test_layer_scale(side):
    """On either side of the choice, the output and every gradient are those of gamma * branch."""
    block = make(norm_cfg={'type': 'BN'}).double().train()
    torch.nn.init.normal_(block.gamma)
    x = torch.randn(1, 16, side, side, dtype=torch.float64)
    assert (side * side > 64) == (side == 12)  # pixels against the hidden width
    names, parameters = zip(*block.named_parameters(), strict=True)
    plain = copy.deepcopy(block)
    branch = plain.norm(plain.mixer(x)).permute(0, 2, 3, 1)
    branch = plain.pointwise_conv2(F.gelu(plain.pointwise_conv1(branch))) * plain.gamma
    out, expected = block(x), x + branch.permute(0, 3, 1, 2)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(x)
    grads = torch.autograd.grad(out, parameters, cotangent)
    for name, ours, reference in zip(
        names, grads, torch.autograd.grad(expected, tuple(plain.parameters()), cotangent), strict=True
    ):
        torch.testing.assert_close(ours, reference, msg=lambda m, name=name: f'{name}: {m}')


@needs.float16_on_cpu
def test_a_small_layer_scale_survives_float16():
    """1e-6 times a weight is zero in float16."""
    block = make(layer_scale_init_value=1e-6).train()
    torch.nn.init.zeros_(block.pointwise_conv2.bias)
    branches = []
    block.drop_path.register_forward_pre_hook(lambda module, args: branches.append(args[0].detach()))
    x = torch.randn(1, 16, 12, 12)
    block(x)
    with torch.autocast('cpu', torch.float16):
        block(x)
    exact, rounded = branches
    assert (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize('training', [True, False])
def test_layer_scale_keeps_bfloat16_activations_and_a_float32_stream(training):
    block = make().train(training)
    branches = []
    block.drop_path.register_forward_pre_hook(lambda module, args: branches.append(args[0]))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        out = block(torch.randn(2, 16, 12, 12).bfloat16())
    assert branches[0].dtype == torch.bfloat16
    assert out.dtype == torch.float32  # in which a small branch on top of a large stream is not lost


def test_hooks_of_the_second_linear_fire_in_evaluation():
    block, calls = make().eval(), []
    block.pointwise_conv2.register_forward_hook(lambda *_: calls.append(1))
    block(torch.randn(1, 16, 12, 12))
    assert calls
